"""The image browser of pages, in a headless Chromium at desktop and phone width: keyboard, layers, outlines, screen readers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.pages.report import write_report
from tests.browser import Tab, needs_chromium, opened
from tests.conftest import write_image_set
from tests.finished_run import finished_run

pytestmark = [needs_chromium, pytest.mark.slow]
CAPTION = "document.getElementById('caption').textContent"
RIGHT = "document.getElementById('right').selectedOptions[0].text"
SCORES = "[...document.querySelectorAll('.card')].map(card => parseFloat(card.lastChild.textContent.split('mIoU ')[1]))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    prepared, results, folder = finished_run(root / "store", write_image_set(root / "images", train=14), "cam+irn")
    return write_report(prepared, results, folder)


def used(page: Path, use: Any, width: int = 1280) -> None:
    """Open the page, use it, and see that it logged no error and asked for nothing."""

    async def whole() -> None:
        async with opened(page, width) as tab:
            await use(tab)
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
            assert not tab.errors
            assert [address for address in tab.requests if not address.startswith("data:")] == [page.as_uri()]

    asyncio.run(whole())


async def choose(tab: Tab, control: str, value: str) -> None:
    found = f"document.getElementById({json.dumps(control)})"
    await tab.evaluate(f"{found}.value = {json.dumps(value)}; {found}.dispatchEvent(new Event('change'))")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_keyboard_alone_opens_an_image_pages_through_images_and_layers_and_closes_it(page: Path, width: int) -> None:
    async def use(tab: Tab) -> None:
        await tab.evaluate("document.querySelectorAll('.card')[1].focus()")
        await tab.press("Enter")
        assert await tab.evaluate("document.getElementById('large').open")
        assert (await tab.evaluate(CAPTION)).startswith("2 of 12: ")
        await tab.press("ArrowRight")
        assert (await tab.evaluate(CAPTION)).startswith("3 of 12: ")
        for _ in range(3):
            await tab.press("ArrowLeft")
        assert (await tab.evaluate(CAPTION)).startswith("12 of 12: ")  # round the beginning
        assert await tab.evaluate(RIGHT) == "pseudo mask (irn)"
        await tab.press("ArrowDown")
        assert await tab.evaluate(RIGHT) == "maps of seed (cam)"
        await tab.press("ArrowUp")
        await tab.press("ArrowUp")
        assert await tab.evaluate(RIGHT) == "seed (cam)" and "seed (cam): mIoU" in await tab.evaluate(CAPTION)
        assert await tab.nameless() == []
        await tab.press("Escape")
        assert not await tab.evaluate("document.getElementById('large').open")
        assert await tab.evaluate("[...document.querySelectorAll('.card')].indexOf(document.activeElement)") == 11

    used(page, use, width)


def test_arrow_keys_on_a_slider_of_the_large_view_move_the_slider(page: Path) -> None:
    async def use(tab: Tab) -> None:
        await tab.evaluate("document.querySelector('.card').click(); document.getElementById('opacity').focus()")
        before = await tab.evaluate(CAPTION), float(await tab.evaluate("document.getElementById('opacity').value"))
        await tab.press("ArrowRight")
        assert await tab.evaluate(CAPTION) == before[0]
        value = float(await tab.evaluate("document.getElementById('opacity').value"))
        assert value == before[1] + 1
        assert float(await tab.evaluate("getComputedStyle(document.querySelector('#stage .fill')).opacity")) == value / 100

    used(page, use)


def test_images_are_ordered_by_their_score_and_filtered_by_class(page: Path) -> None:
    async def use(tab: Tab) -> None:
        await choose(tab, "order", "worst")
        rising = await tab.evaluate(SCORES)
        assert len(rising) == 12 and rising == sorted(rising) and rising[0] < rising[-1]
        await choose(tab, "order", "best")
        assert await tab.evaluate(SCORES) == rising[::-1]
        await choose(tab, "class", "disc")
        captions = await tab.evaluate("[...document.querySelectorAll('.card')].map(card => card.textContent)")
        assert 0 < len(captions) < 12 and all("disc" in caption for caption in captions)

    used(page, use)


def test_outlines_are_the_border_of_a_label_map_and_can_be_switched_off(page: Path) -> None:
    async def use(tab: Tab) -> None:
        await choose(tab, "left", "0")
        await choose(tab, "right", "0")
        counted = """
          (async () => {
            const [image, edges] = ['.card .fill', '.card .edges'].map((one) => document.querySelector(one));
            await image.decode();
            await new Promise((done) => setTimeout(done, 100));
            const whole = Object.assign(document.createElement('canvas'), { width: edges.width, height: edges.height });
            whole.getContext('2d').drawImage(image, 0, 0);
            return [whole, edges].map((canvas) => {
              const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
              return data.filter((value, index) => index % 4 === 3 && value > 0).length;
            });
          })()"""
        inside, border = await tab.evaluate(counted)
        assert 0 < border < inside / 2
        assert await tab.evaluate("getComputedStyle(document.querySelector('.edges')).display") == "block"
        await tab.evaluate("document.getElementById('outlines').click()")
        assert await tab.evaluate("getComputedStyle(document.querySelector('.edges')).display") == "none"

    used(page, use)


def test_two_layers_meet_at_the_border_and_one_covers_the_whole_image(page: Path) -> None:
    async def use(tab: Tab) -> None:
        cut = "document.getElementById('cut')"
        await tab.evaluate(f"{cut}.value = 20; {cut}.dispatchEvent(new Event('input'))")
        assert await tab.evaluate("getComputedStyle(document.querySelector('.over.right')).clipPath") == "inset(0px 0px 0px 20%)"
        await choose(tab, "left", "2")  # the layer on the right
        assert await tab.evaluate("getComputedStyle(document.querySelector('.over.right')).clipPath") == "none"

    used(page, use)


def test_a_screen_reader_finds_a_name_on_everything_and_both_schemes_are_legible(page: Path) -> None:
    async def use(tab: Tab) -> None:
        assert await tab.nameless() == []
        seen = []
        for scheme in ("light", "dark"):
            await tab.light(scheme)
            colours = (
                "['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
            )
            ink, paper = await tab.evaluate(colours)
            assert abs(sum(ink) - sum(paper)) > 500
            seen.append(sum(paper))
        assert seen[0] > seen[1]

    used(page, use)
