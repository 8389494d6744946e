"""`seed_threshold=auto`: the rule, the stage that applies it, and what reads its number."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks import seed_thresholds
from imagesets.errors import WrongInput
from maps.maps import Maps
from maps.reading import as_they_are
from orchestrator.cli import complete
from orchestrator.pages.report import write_report
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared
from orchestrator.reading.comparison import compare
from orchestrator.reading.formats import rows
from orchestrator.reading.summary import group_of
from orchestrator.reading.tables import group_table, threshold
from orchestrator.storage.store import Store
from orchestrator.sweeps.trial import best_threshold
from refiners import seed_threshold as rule
from tests.finished_run import finished_run
from tests.launching import digests, finish, manifests
from tests.planned_run import planned
from tests.test_report import BlindEngine
from training.stage import Settings

AUTO = "cam.seed_threshold=auto"
SMALL = ("backbone.name=small", "backbone.weights=none")
# some values up to 0.75, at least two of them different
histograms = st.dictionaries(st.integers(0, 149), st.integers(1, 9), min_size=2, max_size=6).map(
    lambda counts: np.bincount([*counts], [*counts.values()], rule.BINS).astype(np.int64)
)


def values(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(rule.CENTRES, pixels)


def partings(pixels: np.ndarray) -> dict[float, float]:
    """The variance between the values below a border and the others, by border."""
    every = values(pixels)
    groups = {border: (every[every < border], every[every >= border]) for border in np.unique(every)[1:]}
    return {border: len(low) * len(high) * (low.mean() - high.mean()) ** 2 for border, (low, high) in groups.items()}


def decided(pixels: np.ndarray) -> np.ndarray:
    """A histogram with one best parting; between two, rounding decides."""
    best, *others = sorted(partings(pixels).values(), reverse=True)
    assume(not others or others[0] < best * (1 - 1e-6))
    return pixels


@given(histograms)
def test_otsu_parts_the_values_into_the_two_groups_with_the_most_variance_between_them(pixels: np.ndarray) -> None:
    found = partings(pixels)
    border = min(border for border in found if border > rule.otsu(pixels))
    assert found[border] == pytest.approx(max(found.values()), rel=1e-6)


@given(histograms)
def test_some_values_lie_above_the_threshold_and_some_below_it(pixels: np.ndarray) -> None:
    assert values(pixels).min() < rule.threshold(pixels) < values(pixels).max()


@given(histograms.map(decided), st.integers(1, 50))
def test_a_constant_on_all_values_is_a_constant_on_the_threshold(pixels: np.ndarray, bins: int) -> None:
    assert rule.threshold(np.roll(pixels, bins)) == pytest.approx(rule.threshold(pixels) + bins / rule.BINS)


@given(histograms.map(decided), st.integers(2, 5))
def test_it_depends_on_the_distribution_and_not_on_the_number_of_pixels(pixels: np.ndarray, times: int) -> None:
    assert rule.threshold(times * pixels) == pytest.approx(rule.threshold(pixels))


def test_between_background_and_objects_it_lies_lower_where_objects_are_smaller() -> None:
    found = []
    for share in (50, 20, 5):
        pixels = np.zeros(rule.BINS, np.int64)
        pixels[[20, 160]] = 100 - share, share
        found.append(rule.threshold(pixels))
    assert 0.1 < found[2] < found[1] < found[0] < 0.8


def test_each_pixel_counts_with_its_highest_map_and_an_image_without_classes_has_no_say() -> None:
    planes = np.stack([np.full((8, 8), 0.25, np.float32), np.full((8, 8), 0.75, np.float32)])
    planes[:, 4:, 4:] = np.array([1.5, -1])[:, None, None]
    found = rule.of_maps(Maps(np.array([0, 3]), (8, 8), (planes[:, ::4, ::4],), read=as_they_are))
    assert {place: int(found[place]) for place in np.flatnonzero(found)} == {150: 3, 199: 1}
    assert not rule.of_maps(Maps(np.array([], np.int64), (8, 8), ())).any()


def test_the_number_is_a_hundredth_and_a_list_without_any_class_is_refused() -> None:
    pixels = rule.histogram(torch.rand(1000, generator=torch.Generator().manual_seed(0)))
    assert rule.chosen(Settings({}), (), {"pixels": pixels}) == {"chosen": round(rule.threshold(pixels), 2)}
    with pytest.raises(WrongInput, match="no image of the training list has a class"):
        rule.chosen(Settings({}), (), {"pixels": 0 * pixels})


def keys(prepared: Prepared) -> dict[str, str]:
    return {step.stage.name: step.key for step in prepared.steps}


def step(prepared: Prepared, name: str) -> PlannedStage:
    return next(step for step in prepared.steps if step.stage.name == name)


def inputs(method: str, *assignments: str) -> dict[str, dict[str, str]]:
    """What each stage of an experiment reads: the writer of each word."""
    wanted = experiment(Request(method, "folder:x", "deeplabv2-small", assignments=assignments))
    return {stage.name: {word: source.name for word, source in stage.inputs.items()} for stage in wanted.stages}


def test_it_changes_the_keys_of_the_stages_that_cut_and_of_what_depends_on_them(image_set: Path) -> None:
    fixed, auto = keys(planned(image_set, method="cam+none")), keys(planned(image_set, AUTO, method="cam+none"))
    assert auto.keys() - fixed.keys() == {"cam-maps-threshold"}
    assert {name for name in fixed if auto[name] == fixed[name]} == {"cam-network", "cam-maps"}
    fixed, auto = keys(planned(image_set)), keys(planned(image_set, AUTO))  # irn has thresholds of its own
    assert {name for name in fixed if auto[name] != fixed[name]} == {"cam-maps-score"}


def test_neither_the_scored_list_nor_a_mask_has_a_part_in_the_choice(image_set: Path) -> None:
    before = planned(image_set, AUTO, method="cam+none")
    other = planned(image_set, AUTO, "images.scoring=val", method="cam+none")
    shutil.copy(image_set / "SegmentationClass/train_1.png", image_set / "SegmentationClass/train_0.png")
    masked = planned(image_set, AUTO, method="cam+none")
    for after in (other, masked):
        assert keys(after)["cam-maps-threshold"] == keys(before)["cam-maps-threshold"]
        assert step(after, "none-masks").family == step(before, "none-masks").family
        assert keys(after)["cam-maps-score"] != keys(before)["cam-maps-score"]


def test_each_method_s_threshold_is_chosen_on_its_own_maps() -> None:
    found = inputs("lpcam+amn+none", "lpcam.seed_threshold=auto", "amn.seed_threshold=auto")
    assert found["lpcam-maps-score"] == {"maps": "lpcam-maps", "threshold": "lpcam-maps-threshold"}
    assert found["none-masks"] == found["amn-maps-score"] == {"maps": "amn-maps", "threshold": "amn-maps-threshold"}
    one = inputs("lpcam+amn+none", "lpcam.seed_threshold=auto")
    assert one["amn-maps-score"] == {"maps": "amn-maps"} and "amn-maps-threshold" not in one
    assert "cam-maps-threshold" not in inputs("lpcam+none", AUTO)  # nothing is scored or cut at it


def test_shares_of_classes_are_estimated_at_the_chosen_thresholds() -> None:
    found = inputs("spatial-bce", AUTO, "spatial-bce.seed_threshold=auto", "spatial-bce.backbone=small", *SMALL)
    read = {name: found[name]["threshold"].removesuffix("-threshold") for name in found if "threshold" in found[name]}
    assert read == {
        "spatial-bce-first-areas": "cam-maps",
        "spatial-bce-second-areas": "spatial-bce-first-maps",
        "spatial-bce-third-areas": "spatial-bce-second-maps",
        "spatial-bce-maps-score": "spatial-bce-maps",
    }


def test_imported_maps_have_their_own_choice(tmp_path: Path) -> None:
    found = inputs("cam+none", AUTO, f"imported.maps={tmp_path}")
    assert found["imported-maps-threshold"] == {"maps": "imported-maps"}
    assert (
        found["none-masks"] == found["imported-maps-score"] == {"maps": "imported-maps", "threshold": "imported-maps-threshold"}
    )


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("pamr.seed_threshold=auto", "must be a number, such as 0.25$"),
        ("cam.walk_background=auto", "must be a number, such as 0.25$"),
        ("cam.seed_threshold=automatic", "must be a number, such as 0.15, or auto$"),
        ("sipe.seed_threshold=auto", "there is no setting 'sipe.seed_threshold'"),
    ],
)
def test_it_is_refused_where_nothing_chooses(assignment: str, told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        inputs("cam+pamr", assignment)


def test_the_shell_completes_it() -> None:
    assert complete.settings(AUTO[:-2]) == [AUTO]


def seed_of(results: Mapping[str, Any]) -> dict[str, Any]:
    return next(row for row in results["rows"] if row["quantity"] == "seed")


def test_scores_and_masks_are_those_of_the_chosen_number(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared, results, folder = finished_run(tmp_path / "store", image_set, "cam+none", assignments=(*SMALL, AUTO))
    row, manifest = seed_of(results), step(prepared, "cam-maps-threshold").manifest
    chosen = row["protocol"]["threshold"]
    assert manifest is not None and manifest["result"] == {"chosen": chosen}
    assert threshold(row) == f"{chosen:.2f} auto" and results["settings"]["cam.seed_threshold"] == "auto"
    same = (*SMALL, f"cam.seed_threshold={chosen}")
    _, fixed, _ = finished_run(tmp_path / "store", image_set, "cam+none", assignments=same)
    for name in ("metrics", "curve", "oracle", "per_class"):
        assert seed_of(fixed)[name] == row[name]
    page = write_report(prepared, results, folder).read_text(encoding="utf-8")
    assert f"auto {chosen:.2f}" in page and f"{chosen:.2f} auto" in page
    told = ["seed_thresholds", f"--images=folder:{image_set}", "--half=both", str(tmp_path / "store")]
    monkeypatch.setattr(sys, "argv", told)
    seed_thresholds.main()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "| cam |" in line)
    assert f"{100 * row['metrics']['miou']:.1f} at {chosen:.2f}" in line  # after the preset's, which is 0.15


def test_repeats_choose_for_themselves_and_are_one_group(image_set: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"method": "cam+none", "assignments": (*SMALL, AUTO, "evaluation.thresholds=[0.0, 0.5, 0.1]")}
    runs = [finished_run(tmp_path / "store", image_set, random_seed=seed, **asked)[1] for seed in range(2)]
    levels = {seed_of(run)["protocol"]["threshold"] for run in runs}
    group = group_of(runs)
    row = next(row for row in group.rows() if row.about["quantity"] == "seed")
    assert len(levels) == 2 and row.main is not None and row.main.n == 2
    told = f"{min(levels):.2f} to {max(levels):.2f} auto"
    assert told in list(group_table(group).columns[-1].cells)
    assert any(told in line for line in rows(compare([group], Store(tmp_path / "store"))))
    best = best_threshold(row)
    assert best is not None and best[0] in (0.0, 0.1, 0.2, 0.3, 0.4)  # the thresholds that all curves have


def test_without_masks_the_report_shows_the_seeds_at_the_chosen_number(image_set: Path, tmp_path: Path) -> None:
    shutil.rmtree(image_set / "SegmentationClass")
    prepared, results, folder = finished_run(
        tmp_path / "store", image_set, engine=BlindEngine, method="cam+irn", assignments=(*SMALL, AUTO)
    )
    page = write_report(prepared, results, folder).read_text(encoding="utf-8")
    assert "seed (cam) above 0." in page and "(auto)" in page


@pytest.mark.slow
def test_ray_and_the_local_engine_make_equal_results(image_set: Path, tmp_path: Path) -> None:
    options = ("--set", AUTO, "--until", "none-masks-score")
    for store, further in (("ray", ()), ("local", ("--engine", "local"))):
        finish(image_set, tmp_path / store, *options, *further, method="cam+none")
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")
    chosen = [manifests(tmp_path / store)["cam-maps-threshold"]["result"] for store in ("ray", "local")]
    assert chosen[0] == chosen[1] and 0 < chosen[0]["chosen"] < 1
