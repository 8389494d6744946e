"""The report is one file that shows what the run's results say, and needs nothing else."""

import base64
import io
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagesets.item_list import ItemList
from orchestrator.pages.figures import INK, losses
from orchestrator.pages.page import percent, seconds
from orchestrator.pages.report import write_report
from orchestrator.pages.samples import spread
from orchestrator.planning.launch import Prepared
from orchestrator.planning.published import published
from orchestrator.reading.results import used_settings
from tests.conftest import write_image_set
from tests.finished_run import finished_run

Finished = tuple[Prepared, dict[str, Any], Path]
VOID_ELEMENTS = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page's text, its addresses and its tags; raises where a tag is closed that is not open."""

    def __init__(self, page: str):
        super().__init__()
        self.text = ""
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.addresses += [str(value) for name, value in attributes if name in ("src", "href", "srcset", "xlink:href")]
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID_ELEMENTS:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += f"{text.strip()} "


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("report")
    images = write_image_set(root / "images", train=12)
    for name in ("classes.txt", "image_labels.txt"):
        (images / name).write_text((images / name).read_text().replace("bar", "<b>$bar&$"))
    return finished_run(root / "store", images)


@pytest.fixture(scope="module")
def page(finished: Finished) -> Page:
    return Page(write_report(*finished).read_text())


def test_it_is_whole_and_asks_for_nothing_outside_itself(page: Page) -> None:
    assert not page.open and not page.tags["script"] and not page.tags["link"]
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)


def test_every_score_stands_in_it_with_its_protocol(page: Page, finished: Finished) -> None:
    rows = finished[1]["rows"]
    assert [row["quantity"] for row in rows] == ["seed", "seed", "pseudo", "seg"]
    for row in rows:
        assert all(percent(row["metrics"][name]) in page.text for name in ("miou", "precision", "recall", "fp", "fn"))
        assert all(str(value) in page.text for value in row["protocol"].values())
    assert f"{percent(rows[0]['oracle']['miou'])} at {rows[0]['oracle']['threshold']:.2f}" in page.text


def test_errors_and_costs_stand_in_it(page: Page, finished: Finished) -> None:
    for row in finished[1]["rows"]:
        assert all(percent(share) in page.text for share in row["errors"].values())
        assert sum(row["errors"].values()) == pytest.approx(1)
        assert percent(row["by_labels"]["one"]["miou"]) in page.text and seconds(row["cost"]["wall"]) in page.text
    costs = [row["cost"]["wall"] for row in finished[1]["rows"]]
    assert costs == sorted(costs) and costs[0] > 0


def test_every_stage_is_listed_with_its_times(page: Page, finished: Finished) -> None:
    for step in finished[0].steps:
        assert step.stage.name in page.text and step.manifest is not None
        assert seconds(step.manifest["cpu"]) in page.text
    assert page.text.count("made") == len(finished[0].steps) + 1  # and once in the heading


def test_names_from_the_user_are_text_not_markup(page: Page) -> None:
    assert "<b>$bar&$" in page.text


def test_pictures_are_images_and_labels_keep_their_palette(page: Page, finished: Finished) -> None:
    uris = [address for address in page.addresses if address.startswith("data:")]
    pictures = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]
    regions = [picture for picture in pictures if picture.size == (72, 72)]
    assert len(regions) == 2 * len(finished[1]["classes"])  # two prototypes a class, one region each
    formats = Counter(picture.format for picture in pictures if picture not in regions)
    assert formats == {"WEBP": 8 + 3, "PNG": 8 * 4 + 3 * 2}  # 8 of train, all 3 of val
    palettes = [picture.getpalette() for picture in pictures if picture.format == "PNG"]
    assert all(palette and palette[3:6] == [128, 0, 0] for palette in palettes)


def test_figures_take_the_colour_of_the_page(page: Page, finished: Finished) -> None:
    text = write_report(*finished).read_text()
    assert page.tags["svg"] == 2 + 4  # two seeds, four trainings
    assert "currentColor" in text and INK not in text


def test_the_same_run_gives_the_same_page(finished: Finished) -> None:
    assert write_report(*finished).read_bytes() == write_report(*finished).read_bytes()


def test_a_second_launch_says_that_its_stages_were_cached(finished: Finished, tmp_path: Path) -> None:
    request = finished[0].request
    again = finished_run(request.store, Path(request.images.partition(":")[2]))
    text = Page(write_report(again[0], again[1], tmp_path).read_text()).text
    assert text.count("cached") == len(again[0].steps)


def test_a_run_without_seeds_or_pseudo_masks_has_a_report_too(finished: Finished) -> None:
    request = finished[0].request
    run = finished_run(request.store, Path(request.images.partition(":")[2]), method="supervised")
    text = Page(write_report(*run).read_text()).text
    assert "Segmentation" in text and "Training images" not in text and "Seeds over" not in text


def test_published_figures_stand_beside_ours_with_their_source(finished: Finished, tmp_path: Path) -> None:
    prepared, results, _ = finished
    text = Page(write_report(prepared, {**results, "images": "voc12"}, tmp_path).read_text()).text
    assert "54.9 LPCAM Table 2" in text and "72.7 with lpcam+irn, LPCAM Table 2" in text
    assert "LPCAM Table 3" not in text  # that segmentation is of a larger segmenter than this run's


def test_a_loss_of_one_epoch_is_a_point() -> None:
    assert "<svg" in losses([{"epoch": 1, "classification": 0.5}], "cam-network")


def test_published_figures_are_of_exactly_this_chain() -> None:
    def figure(metric: str, *components: str) -> float | None:
        found = published("voc12", metric, components, segmenter="deeplabv2")
        return found.value if found else None

    assert figure("seed.miou/train", "cam") == 48.8
    assert figure("seed.miou/train", "cam", "lpcam") == 54.9
    assert figure("pseudo.miou/train", "cam", "lpcam", "irn") == 71.2
    assert figure("pseudo.miou/train", "cam", "lpcam", "amn", "irn") == 72.7
    assert figure("pseudo.miou/train", "cam", "lpcam", "amn", "crf") is None
    assert figure("seg.miou/val", "cam", "lpcam", "amn", "irn", "deeplabv2") == 70.1  # its own backbone is ResNet-101
    assert published("voc12", "seg.miou/val", ["lpcam", "amn", "irn", "deeplabv2"], "deeplabv2-small") is None
    assert published("shapes", "seed.miou/train", ["cam"]) is None


def test_used_settings_are_those_that_stages_receive_and_the_images(image_set: Path, tmp_path: Path) -> None:
    _, results, _ = finished_run(tmp_path / "store", image_set, "cam+irn", assignments=("backbone.weights=none",))
    used = used_settings(results)
    owners = {"images", "cam", "irn", "crf", "training", "backbone", "extraction", "evaluation", "deeplabv2"}
    assert {name.partition(".")[0] for name in used} == owners
    assert "crf.parameters" in used and "crf.seed_threshold" not in used


@given(st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=1, max_size=30), st.integers(1, 8), st.randoms())
def test_samples_show_every_class_there_is_room_for_whatever_the_order(labels: list[set[int]], count: int, random: Any) -> None:
    named = [(f"image{index}", tuple(sorted(own))) for index, own in enumerate(labels)]
    chosen = spread(_list_of(named), count)
    assert len({item.id for item in chosen}) == len(chosen) == min(count, len(named))
    there, seen = set().union(*labels), set().union(*(item.labels for item in chosen))
    assert seen == there or len(seen) >= min(len([item for item in chosen if item.labels]), len(there))
    random.shuffle(named)
    assert spread(_list_of(named), count) == chosen


def _list_of(named: list[tuple[str, tuple[int, ...]]]) -> ItemList:
    return ItemList.of(Path(), (id for id, _ in named), ("" for _ in named), (labels for _, labels in named))


@pytest.mark.parametrize(("value", "shown"), [(4.21, "4.2 s"), (59.96, "1 min 0 s"), (185, "3 min 5 s"), (7799.6, "2 h 10 min")])
def test_times_are_told_in_their_two_largest_units(value: float, shown: str) -> None:
    assert seconds(value) == shown
