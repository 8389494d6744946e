"""A comparison says what its runs say, measures against the first, and warns where protocols differ; its page works."""

import asyncio
import csv
import io
from pathlib import Path

import pytest

from imagesets.errors import WrongInput
from orchestrator.pages.comparison_page import write_page
from orchestrator.reading.comparison import Comparison, compare
from orchestrator.reading.formats import comma_separated, latex, markdown, write
from orchestrator.reading.groups import Runs
from tests.browser import needs_chromium, opened
from tests.conftest import write_image_set
from tests.finished_run import finished_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two runs of cam+irn and two of lpcam+irn."""
    root = tmp_path_factory.mktemp("comparison")
    images = write_image_set(root / "images", train=14)
    for method in ("cam+irn", "lpcam+irn"):
        for seed in (0, 1):
            finished_run(root / "store", images, method, random_seed=seed)
    return root / "store"


@pytest.fixture(scope="module")
def comparison(store: Path) -> Comparison:
    runs = Runs(store)
    return compare([runs.group("cam+irn"), runs.group("lpcam+irn")])


def test_a_method_stands_for_all_its_runs(comparison: Comparison) -> None:
    assert [entry.label for entry in comparison.entries] == ["cam+irn", "lpcam+irn"]
    assert all(line.row.scores["miou"].n == 2 for lines in comparison.lines.values() for line in lines)
    assert list(comparison.lines) == ["seed", "pseudo", "seg"] and not comparison.warnings


def test_differences_are_paired_with_the_first(comparison: Comparison) -> None:
    base, other = comparison.lines["seg"]
    assert not base.difference
    for seed, value in other.difference["miou"].by_seed.items():
        assert value == pytest.approx(other.row.scores["miou"].by_seed[seed] - base.row.scores["miou"].by_seed[seed])


def test_runs_of_one_method_are_told_apart_by_what_differs(store: Path) -> None:
    runs = Runs(store)
    (first, second) = compare([runs.group(run["run"]) for run in runs.group("cam+irn").runs]).entries
    assert first.label != second.label


def test_an_unknown_run_names_the_nearest(store: Path) -> None:
    with pytest.raises(WrongInput, match=r"no finished run of 'lpcam\+irm'; did you mean 'lpcam\+irn'"):
        Runs(store).group("lpcam+irm")


def test_other_random_seeds_and_another_protocol_are_warned_of(store: Path) -> None:
    runs = Runs(store)
    whole, single = runs.group("cam+irn"), runs.group(runs.group("lpcam+irn").runs[0]["run"])
    changed = {
        **single.first,
        "rows": [{**row, "protocol": {**row["protocol"], "void": "counted"}} for row in single.first["rows"]],
    }
    warnings = compare([whole, type(single)(single.name, [changed], {7: "ValueError: no"})]).warnings
    assert any("protocols of seg differ in void" in warning and "lpcam+irn: counted" in warning for warning in warnings)
    assert any("not all have the same random seeds" in warning for warning in warnings)
    assert any("random seed 7 failed: ValueError: no" in warning for warning in warnings)


def test_csv_holds_every_score_at_full_precision(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(comma_separated(comparison))))
    of = next(line for line in lines if (line["method"], line["quantity"], line["metric"]) == ("lpcam+irn", "seg", "miou"))
    assert float(of["mean"]) == comparison.lines["seg"][1].row.scores["miou"].mean
    assert float(of["difference"]) == comparison.lines["seg"][1].difference["miou"].mean
    assert {line["metric"] for line in lines} == {"miou", "precision", "recall", "fp", "fn"}


def test_markdown_and_latex_have_a_row_per_method(comparison: Comparison, tmp_path: Path) -> None:
    assert sum(line.startswith("| seg | ") for line in markdown(comparison).splitlines()) == 2
    assert (
        sum(line.startswith(("cam+irn &", "lpcam+irn &")) and line.endswith(r"\\") for line in latex(comparison).splitlines())
        == 2
    )
    with pytest.raises(WrongInput, match=r"must end in one of .md, .tex, .csv"):
        write(comparison, tmp_path / "table.docx")


@needs_chromium
@pytest.mark.slow
def test_the_page_works_in_a_browser(comparison: Comparison, store: Path, tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    write_page(comparison, store, page)

    async def use(width: int) -> None:
        async with opened(page, width) as tab:
            first = "[...document.querySelector('table.sortable').tBodies[0].rows].map(row => row.cells[5].textContent)"
            await tab.evaluate("document.querySelector('table.sortable').tHead.rows[0].cells[5].click()")
            means = [float(text.split()[0]) for text in await tab.evaluate(first)]
            assert means == sorted(means)
            await tab.evaluate("document.querySelector('table.sortable').tHead.rows[0].cells[5].click()")
            assert [float(text.split()[0]) for text in await tab.evaluate(first)] == means[::-1]

            shown = "[...document.querySelectorAll('#browser figcaption')].map(caption => caption.textContent)"
            whole = await tab.evaluate(shown)
            assert len(whole) == 6 and await tab.evaluate("controls.elements.page.value") == "1 of 3"
            await tab.evaluate("controls.elements.on.click()")
            assert not set(await tab.evaluate(shown)) & set(whole)
            await tab.evaluate(
                "controls.elements['class'].value = 'disc'; controls.elements['class'].dispatchEvent(new Event('change'))"
            )
            assert all("disc" in caption for caption in await tab.evaluate(shown))
            await tab.evaluate("controls.elements.cut.value = 20; controls.elements.cut.dispatchEvent(new Event('input'))")
            assert await tab.evaluate("getComputedStyle(document.querySelector('img.over')).clipPath") == "inset(0px 0px 0px 20%)"
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
            assert not tab.errors
            assert [address for address in tab.requests if not address.startswith("data:")] == [page.as_uri()]

    for width in (1200, 390):
        asyncio.run(use(width))
