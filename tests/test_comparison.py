"""Comparisons: figures are those of the runs, differences are to the first, protocols that differ are named; the page works."""

import asyncio
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagesets.errors import WrongInput
from imagesets.item import read_label_map
from metrics import region
from orchestrator.pages.comparison_page import sheets, write_page
from orchestrator.reading.comparison import Comparison, compare
from orchestrator.reading.formats import columns, comma_separated, latex, markdown, markdown_table, rows, tabular, write
from orchestrator.reading.groups import Runs
from orchestrator.reading.resampling import AT_ONCE, DRAWS
from orchestrator.reading.summary import Group, Spread
from orchestrator.storage.shards import StoredRecords
from orchestrator.storage.store import Store
from tests.browser import needs_chromium, opened
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run
from tests.test_report import BlindEngine, Page
from training.randomness import generator


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
    return compare([runs.group("cam+irn"), runs.group("lpcam+irn")], Store(store))


def results_of(store: Path, method: str, seed: int) -> dict[str, Any]:
    """The results of one run, from the store."""
    found = [json.loads(path.read_text()) for path in (store / "runs").glob(f"{method}-*-{seed}/results.json")]
    (one,) = (results for results in found if results["method"] == method)
    return one


def test_a_method_stands_for_all_its_runs(comparison: Comparison, store: Path) -> None:
    assert [entry.label for entry in comparison.entries] == ["cam+irn", "lpcam+irn"]
    assert list(comparison.lines) == [("seed", "train"), ("pseudo", "train"), ("seg", "val")] and not comparison.warnings
    for place, number in ((("seed", "train"), 0), (("seg", "val"), -1)):
        for line in comparison.lines[place]:
            runs = {seed: results_of(store, line.entry.label, seed)["rows"][number] for seed in (0, 1)}
            assert line.row.scores["miou"].by_seed == {seed: row["metrics"]["miou"] for seed, row in runs.items()}
            assert len(set(line.row.scores["miou"].by_seed.values())) == 2  # two random seeds are two values


def test_differences_are_paired_with_the_first(comparison: Comparison, store: Path) -> None:
    base, other = comparison.lines["seg", "val"]
    assert not base.differences
    cam, lpcam = ([results_of(store, method, seed)["rows"][-1] for seed in (0, 1)] for method in ("cam+irn", "lpcam+irn"))
    for metric in ("miou", "fn"):
        gains = [ours["metrics"][metric] - theirs["metrics"][metric] for ours, theirs in zip(lpcam, cam, strict=True)]
        assert list(other.differences[metric].spread.by_seed.values()) == pytest.approx(gains)
        assert abs(gains[0]) > 1e-4


def test_the_interval_over_images_is_that_of_lists_drawn_from_the_list(comparison: Comparison, store: Path) -> None:
    """The same draws, each scored by counting the pixels of its images one by one."""
    line = comparison.lines["pseudo", "train"][1]
    items = [f"train_{number}" for number in range(14)]
    matrices = {}
    for method in ("cam+irn", "lpcam+irn"):
        for seed in (0, 1):
            row = next(row for row in results_of(store, method, seed)["rows"] if row["quantity"] == "pseudo")
            records = StoredRecords(Store(store).folder(row["stage"], row["key"]))
            truths = [read_label_map(store.with_name("images") / "SegmentationClass" / f"{item}.png") for item in items]
            matrices[method, seed] = [
                region.confusion(truth, records[item]["label"], 3) for item, truth in zip(items, truths, strict=True)
            ]
    rng, differences = generator("bootstrap", 14), []
    for draw in np.concatenate([rng.multinomial(14, np.full(14, 1 / 14), AT_ONCE) for _ in range(DRAWS // AT_ONCE)]):
        score = {run: region.miou(sum(times * one for times, one in zip(draw, of, strict=True))) for run, of in matrices.items()}
        differences.append(np.mean([score["lpcam+irn", seed] - score["cam+irn", seed] for seed in (0, 1)]))
    difference = line.differences["miou"]
    assert difference.interval == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    assert difference.interval is not None and difference.interval[0] < difference.spread.mean < difference.interval[1]


def test_a_run_does_not_differ_from_itself_on_any_sample_of_images(store: Path) -> None:
    group = Runs(store).group("cam+irn")
    (_, same) = compare([group, group], Store(store)).lines["seg", "val"]
    assert same.difference is not None
    assert same.difference.interval == (0, 0) and same.difference.spread.by_seed == {0: 0, 1: 0}


@pytest.fixture(scope="module")
def elsewhere(store: Path) -> Group:
    """Two runs of cam+irn on other images in lists of the same names."""
    images = write_image_set(store.with_name("others"), train=10, val=5)
    for seed in (0, 1):
        finished_run(store.with_name("elsewhere"), images, "cam+none", random_seed=seed)
    return Runs(store.with_name("elsewhere")).group("cam+none")


def test_scores_of_other_images_are_not_subtracted_and_it_says_why(store: Path, elsewhere: Group) -> None:
    found = compare([Runs(store).group("cam+irn"), elsewhere], Store(store))
    assert all(not line.differences for lines in found.lines.values() for line in lines)
    cells = [row[columns(found).index(">difference")] for row in rows(found)]
    assert cells == [""] * 6
    (told,) = (warning for warning in found.warnings if warning.startswith("seg on val"))
    assert "cam+irn: 3 images of images, masks " in told and "cam+none: 5 images of others, masks " in told
    assert [len(digest) for digest in re.findall(r"masks ([0-9a-f]+)", told)] == [8, 8]


def test_an_interval_that_can_no_longer_be_computed_is_reported(comparison: Comparison, store: Path, tmp_path: Path) -> None:
    runs = Runs(store)
    found = compare([runs.group("cam+irn"), runs.group("lpcam+irn")], Store(tmp_path))  # a store without any stage
    line = found.lines["seg", "val"][1]
    assert line.difference is not None and line.difference.interval is None
    assert line.difference.spread == comparison.lines["seg", "val"][1].differences["miou"].spread
    assert "lpcam+irn, seg on val: no interval over images, because their counts are no longer in the store" in found.warnings


def test_runs_of_one_method_are_told_apart_by_what_differs(store: Path) -> None:
    runs = Runs(store)
    (first, second) = compare([runs.group(run["run"]) for run in runs.group("cam+irn").runs], Store(store)).entries
    assert first.label != second.label


def test_the_images_are_those_of_the_first_entry_and_other_images_are_left_out(store: Path, elsewhere: Group) -> None:
    entries = compare([Runs(store).group("cam+irn"), elsewhere], Store(store)).entries
    found = sheets(entries, store)
    assert [(sheet["title"], [layer["title"] for layer in sheet["layers"]]) for sheet in found] == [
        ("train", ["truth", "cam+irn: seed", "cam+irn: pseudo mask", "maps of cam+irn: seed"]),
        ("val", ["truth", "cam+irn: segmentation"]),
    ]


def test_a_run_from_before_a_setting_of_images_came_is_shown_beside_a_newer_one(store: Path) -> None:
    old, new = (Runs(store).group(method) for method in ("cam+irn", "lpcam+irn"))
    runs = [
        {
            **run,
            "settings": {name: value for name, value in run["settings"].items() if name != "images.classification"},
            "used": [name for name in run["used"] if name != "images.classification"],
        }
        for run in old.runs
    ]
    (train, _) = sheets(compare([Group(old.name, runs, {}), new], Store(store)).entries, store)
    assert "lpcam+irn: seed" in [layer["title"] for layer in train["layers"]]


def test_an_unknown_run_names_the_nearest(store: Path) -> None:
    with pytest.raises(WrongInput, match=r"no finished run of 'lpcam\+irm'; did you mean 'lpcam\+irn'"):
        Runs(store).group("lpcam+irm")


def changed(group: Group, **protocol: Any) -> Group:
    """The first run of a group, made under another protocol; random seed 7 failed."""
    changes = [{**row, "protocol": {**row["protocol"], **protocol}} for row in group.first["rows"]]
    return Group(group.name, [{**group.first, "rows": changes}], {7: "ValueError: no"})


def test_other_random_seeds_and_another_protocol_are_warned_of(store: Path) -> None:
    runs = Runs(store)
    other = changed(runs.group("lpcam+irn"), void="counted", **{"irn.exp_times": 3})
    warnings = compare([runs.group("cam+irn"), other], Store(store)).warnings
    protocols = [warning for warning in warnings if "protocols of" in warning]
    assert [warning.removeprefix("the protocols of ").partition(" (")[0] for warning in protocols] == [
        "seed on train differ in void",
        "pseudo on train differ in void",
        "pseudo on train differ in exp_times",
        "seg on val differ in void",
        "seg on val differ in irn.exp_times",
    ]
    assert "cam+irn: 8; lpcam+irn: 3" in protocols[2] and "lpcam+irn: counted" in protocols[0]
    assert "random seeds differ (cam+irn: 0, 1; lpcam+irn: 0); differences are over the common ones" in warnings
    assert "lpcam+irn, random seed 7 failed: ValueError: no" in warnings


def test_entries_without_a_common_random_seed_have_no_difference(store: Path) -> None:
    zero, one = (Runs(store).group(run["run"]) for run in Runs(store).group("cam+irn").runs)
    found = compare([zero, one], Store(store))
    (told,) = (warning for warning in found.warnings if warning.startswith("random seeds differ"))
    names = zero.first["run"], one.first["run"]
    assert told == (
        f"random seeds differ ({names[0]}: 0; {names[1]}: 1); "
        f"{names[1]} has none in common with {names[0]}, so there is no difference between them"
    )
    assert not any(line.differences for lines in found.lines.values() for line in lines)
    (told,) = (warning for warning in compare([zero, one, zero], Store(store)).warnings if "random seeds" in warning)
    assert "; differences are over the common ones; " in told


def test_a_random_seed_that_was_scored_on_other_masks_is_warned_of(store: Path) -> None:
    group = Runs(store).group("cam+irn")
    first, second = group.runs
    other = {**second, "rows": [{**row, "masks": "other"} for row in second["rows"]]}
    found = compare([Group(group.name, [first, other], {})], Store(store))
    assert len(found.warnings) == 3 and found.lines["seg", "val"][0].row.main == Spread({0: first["rows"][-1]["metrics"]["miou"]})
    assert found.warnings[-1] == (
        "cam+irn, seg on val: the score of random seed 1 is left out, because its images, masks or protocol differ from those of "
        "random seed 0"
    )


def test_a_setting_that_one_method_lacks_is_no_difference_between_protocols(store: Path) -> None:
    root = store.with_name("images")
    for seed in (0, 1):
        finished_run(store, root, "supervised", random_seed=seed)
    runs = Runs(store)
    assert compare([runs.group("cam+irn"), runs.group("supervised")], Store(store)).warnings == []


def test_csv_holds_every_score_at_full_precision(comparison: Comparison, store: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(comma_separated(comparison))))
    own = [line for line in lines if (line["method"], line["quantity"]) == ("lpcam+irn", "seg")]
    of = {line["metric"]: line for line in own if not line["class"]}
    cam, lpcam = ([results_of(store, method, seed)["rows"][-1] for seed in (0, 1)] for method in ("cam+irn", "lpcam+irn"))
    known = {name for name, value in lpcam[0]["metrics"].items() if value is not None}  # there may be no small object
    assert of.keys() == known and {line["better"] for line in of.values()} == {"higher", "lower"}
    for metric, line in of.items():
        values = [row["metrics"][metric] for row in lpcam]
        assert float(line["mean"]) == pytest.approx(sum(values) / 2, abs=1e-15)
        assert float(line["difference"]) == pytest.approx(sum(values) / 2 - sum(row["metrics"][metric] for row in cam) / 2)
        interval = comparison.lines["seg", "val"][1].differences[metric].interval
        assert (float(line["difference_low"]), float(line["difference_high"])) == interval and line["images"] == "3"
    classes = {line["class"]: float(line["mean"]) for line in own if line["metric"] == "iou"}
    mean_iou = {name: np.mean([row["per_class"][name]["iou"] for row in lpcam]) for name in lpcam[0]["per_class"]}
    assert classes == pytest.approx(mean_iou) and "background" in classes


def test_markdown_and_latex_have_a_row_per_method(comparison: Comparison, tmp_path: Path) -> None:
    base, other = (line.row.scores["miou"].mean * 100 for line in comparison.lines["seg", "val"])
    (first, second) = (line for line in markdown(comparison).splitlines() if line.startswith("| seg | "))
    assert f"| seg | cam+irn | deeplabv2 | val | 2 | {base:.1f} ± " in first
    assert f"| seg | lpcam+irn | deeplabv2 | val | 2 | {other:.1f} ± " in second and f"| {other - base:+.1f} ± " in second
    assert (
        sum(line.startswith(("cam+irn &", "lpcam+irn &")) and line.endswith(r"\\") for line in latex(comparison).splitlines())
        == 2
    )
    classes = [line.row.per_class["background"].mean * 100 for line in comparison.lines["seg", "val"]]
    of_background = [line for line in latex(comparison).splitlines() if line.startswith("background &")]
    assert len(of_background) == len(comparison.lines)
    assert all(f"& {value:.1f} $\\pm$" in of_background[-1] for value in classes)
    with pytest.raises(WrongInput, match=r"must end in one of .md, .tex, .csv"):
        write(comparison, tmp_path / "table.docx")


def test_signs_with_a_meaning_stand_as_they_are() -> None:
    row = tabular(["class"], [["[a]*"], ["IoU ≤1% <b> | λ_x & y"]]).splitlines()[4:6]
    assert row == [r"{[}a]{*} \\", r"IoU $\le$1\% $<$b$>$ $|$ $\lambda$\_x \& y \\"]
    assert markdown_table(["class"], [["<b> | c"]]).endswith("\n| \\<b> \\| c |")


def test_a_page_of_runs_whose_images_were_moved_has_all_but_the_images(store: Path, command: Command, tmp_path: Path) -> None:
    images = store.parent / "images"
    images.rename(tmp_path / "moved")
    try:
        for name in ("report", "compare"):
            page = tmp_path / f"{name}.html"
            code, shown, _ = command(name, "cam+irn", "--to", page, "--store", store)
            told = " ".join(shown.split())
            assert code == 0 and f"the page shows no images: {images} is no folder" in told
            assert "the page shows no images" in page.read_text() and 'id="sheets"' not in page.read_text()
    finally:
        (tmp_path / "moved").rename(images)


def test_the_pages_of_a_run_whose_maps_were_removed_have_all_but_the_images(
    store: Path, command: Command, tmp_path: Path
) -> None:
    (seed, *_) = results_of(store, "cam+irn", 0)["rows"]
    folder = Store(store).folder(seed["stage"], seed["key"])
    folder.rename(tmp_path / "removed")
    try:
        code, shown, _ = command("report", "cam+irn", "--to", tmp_path / "page.html", "--store", store)
        told = "the page shows no images: the result of cam-maps is no longer in the store; launch its run again"
        assert code == 0 and told in " ".join(shown.split())
    finally:
        (tmp_path / "removed").rename(folder)


@pytest.mark.parametrize("threshold", ["auto", "0.4"])
def test_without_masks_the_page_shows_what_each_run_made(
    image_set: Path, command: Command, tmp_path: Path, threshold: str
) -> None:
    shutil.rmtree(image_set / "SegmentationClass")
    settings = (f"cam.seed_threshold={threshold}", "backbone.name=small", "backbone.weights=none")
    for method in ("cam+none", "cam+crf"):
        finished_run(tmp_path / "store", image_set, method, engine=BlindEngine, assignments=settings)
    path = tmp_path / "page.html"
    code, shown, _ = command("compare", "cam+none", "cam+crf", "--to", path, "--store", tmp_path / "store")
    assert code == 0 and shown.startswith("note: nothing of cam+none was scored")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.addresses[:2] == ["#figures", "#images"]
    layers = page.layers
    above = " above 0.50 (auto)" if threshold == "auto" else ""
    assert layers["train"] == [
        *(f"{method}: {what}" for method in ("cam+none", "cam+crf") for what in (f"seed{above}", "pseudo mask")),
        *(f"maps of {method}: seed{above}" for method in ("cam+none", "cam+crf")),
    ]
    assert layers["val"] == ["cam+none: segmentation", "cam+crf: segmentation"]


@needs_chromium
@pytest.mark.slow
def test_the_page_works_in_a_browser(comparison: Comparison, store: Path, tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    write_page(comparison, store, page, count=14)

    async def use(width: int) -> None:
        async with opened(page, width) as tab:
            first = "[...document.querySelector('table.sortable').tBodies[0].rows].map(row => row.cells[5].textContent)"
            await tab.evaluate("document.querySelector('table.sortable').tHead.rows[0].cells[5].firstChild.focus()")
            await tab.press("Enter")
            means = [float(text.split()[0]) for text in await tab.evaluate(first)]
            assert means == sorted(means)
            await tab.press("Enter")
            assert [float(text.split()[0]) for text in await tab.evaluate(first)] == means[::-1]

            layers = "[...document.getElementById('right').options].map(option => option.text)"
            assert {"cam+irn: pseudo mask", "lpcam+irn: seed", "maps of lpcam+irn: seed"} <= set(await tab.evaluate(layers))
            assert await tab.evaluate("document.querySelectorAll('.card').length") == 12
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
            assert not tab.errors and await tab.nameless() == []
            assert [address for address in tab.requests if not address.startswith("data:")] == [page.as_uri()]

    for width in (1280, 390):
        asyncio.run(use(width))
