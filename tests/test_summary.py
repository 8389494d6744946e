"""Several runs as one: textbook statistics, pairs by random seed, no mean over undefined values."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planning.prepared import plan_with, planner
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.numbers import told_spread
from orchestrator.reading.results import completed, without_classes, write_results
from orchestrator.reading.summary import Spread, failure_in, group_of, note_failure, places
from tests.conftest import write_image_set
from tests.finished_run import finished_run

MIOU = Metric(title="mIoU")
VALUES = st.dictionaries(st.integers(0, 20), st.floats(0, 1), min_size=2, max_size=8)


@given(VALUES)
def test_mean_and_deviation_are_those_of_a_sample(values: dict[int, float]) -> None:
    spread, plain = Spread(values), np.array(list(values.values()))
    assert spread.mean == pytest.approx(plain.mean())
    assert spread.std == pytest.approx(plain.std(ddof=1), abs=1e-12)
    assert (spread.minimum, spread.maximum, spread.n) == (plain.min(), plain.max(), len(plain))


def test_one_run_has_no_deviation() -> None:
    assert Spread({3: 0.5}).std is None
    assert told_spread(Spread({3: 0.5}), MIOU) == "50.0"
    assert told_spread(Spread({0: 0.5, 1: 0.52}), MIOU) == "51.0 ± 1.4"
    assert told_spread(Spread({0: 0.5, 1: 0.52}), MIOU, signed=True) == "+51.0 ± 1.4"
    assert told_spread(Spread({0: 3.25}), Metric(title="distance", unit="pixels")) == "3.25"


@given(VALUES, st.floats(-0.5, 0.5))
def test_a_constant_gain_has_a_paired_difference_without_deviation(values: dict[int, float], gain: float) -> None:
    difference = Spread({seed: value + gain for seed, value in values.items()}).minus(Spread(values))
    assert difference is not None and difference.std is not None
    assert difference.mean == pytest.approx(gain) and difference.std == pytest.approx(0, abs=1e-12)


def test_differences_are_over_the_random_seeds_that_both_have() -> None:
    difference = Spread({0: 0.5, 1: 0.6}).minus(Spread({1: 0.5, 2: 0.9}))
    assert difference is not None and difference.by_seed == pytest.approx({1: 0.1})
    assert Spread({0: 0.5}).minus(Spread({1: 0.5})) is None


def test_scores_of_a_constant_output_are_told() -> None:
    about = {"stage": "x-maps", "component": "cam", "split": "val"}
    found = {"background": {"iou": 0.7}, "cat": {"iou": 0.0}, "dog": {"iou": None}}
    rows = [{**about, "quantity": quantity, "per_class": found} for quantity in ("seed", "seg")]
    seeds, segmentations = without_classes(rows)
    assert seeds == (
        "the seeds of cam on val have no right pixel of any class but background; "
        "a training may have diverged or be too short, or a threshold may not fit"
    )
    assert segmentations.endswith("any class but background; a training may have diverged or be too short")
    found["cat"]["iou"] = 0.01
    assert list(without_classes([*rows, {**about, "quantity": "seg"}])) == []
    (none,) = without_classes([{**rows[1], "per_class": {"background": {"iou": 0.0}, "cat": {"iou": 0.0}}}])
    assert "no right pixel of any class;" in none


@pytest.mark.parametrize("main", [Metric(title="accuracy"), Metric(title="missed", per_class="iou", better="lower")])
def test_a_score_that_is_no_share_of_right_pixels_tells_of_no_constant_output(
    main: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.planning.scores.main_metric", lambda quantity: main)
    row = {"stage": "x", "component": "cam", "split": "val", "quantity": "seg", "per_class": {"cat": {"iou": 0.0}}}
    assert list(without_classes([row])) == []


def results(seed: int, miou: float, precision: float | None = 0.5, scales: str = "1", masks: str = "a") -> dict:
    row = {
        "quantity": "seg",
        "component": "deeplabv2",
        "stage": "deeplabv2-predictions",
        "split": "val",
        "masks": masks,
        "protocol": {"test_scales": scales},
        "metrics": {"miou": miou, "precision": precision},
        "per_class": {"cat": {"iou": miou}},
    }
    return {"run": f"cam-folder-abc-{seed}", "random_seed": seed, "method": "cam", "rows": [row]}


def test_a_group_spreads_each_score_over_its_runs() -> None:
    group = group_of([results(1, 0.6), results(0, 0.4)])
    (row,) = group.rows()
    assert group.name == "cam-folder-abc" and group.first["random_seed"] == 0
    assert row.scores["miou"].by_seed == {0: 0.4, 1: 0.6} and row.per_class["cat"].mean == pytest.approx(0.5)


def test_places_come_in_the_order_of_the_group_that_has_most() -> None:
    short, long = group_of([results(0, 0.4)]).last(), {("seed", "train"): None, ("seg", "val"): None}
    assert places([short, long]) == [("seed", "train"), ("seg", "val")]  # type: ignore[list-item]


def test_two_scored_stages_of_a_component_are_two_rows() -> None:
    runs = [results(seed, 0.4) for seed in (0, 1)]
    for run in runs:
        run["rows"].append({**run["rows"][0], "stage": "deeplabv2-refined", "metrics": {"miou": 0.9, "precision": 0.5}})
    first, second = group_of(runs).rows()
    assert first.scores["miou"].mean == pytest.approx(0.4) and second.scores["miou"].mean == pytest.approx(0.9)


def test_what_is_undefined_in_a_run_is_left_out_and_counted() -> None:
    (row,) = group_of([results(0, 0.4, None), results(1, 0.6, 0.7)]).rows()
    assert row.scores["precision"].by_seed == {1: 0.7} and row.scores["precision"].n == 1


def test_a_run_under_another_protocol_is_not_averaged_in() -> None:
    (row,) = group_of([results(0, 0.4), results(1, 0.6, scales="1, 0.5")]).rows()
    assert row.scores["miou"].n == 1 and row.left_out == [1]


def test_a_run_that_was_scored_on_other_masks_is_not_averaged_in() -> None:
    (row,) = group_of([results(seed, 0.4, masks="ab"[seed == 2]) for seed in range(4)]).rows()
    assert row.scores["miou"].by_seed.keys() == {0, 1, 3} and row.left_out == [2]


def test_the_unit_of_cost_is_that_of_as_many_images(image_set: Path, tmp_path: Path) -> None:
    (image_set / "ImageSets/Segmentation/some.txt").write_text("train_0\ntrain_1\n")
    finished_run(tmp_path, image_set, "cam+irn")
    for training, known in (("train", True), ("some", False)):
        _, results, _ = finished_run(tmp_path, image_set, "supervised", assignments=(f"images.training={training}",))
        assert (results["rows"][-1]["cost"]["units"] is not None) == known


def test_a_failure_is_remembered_in_one_line(tmp_path: Path) -> None:
    error = ValueError("of two\nlines")
    error.add_note("in stage cam-network")
    note_failure(tmp_path, error)
    assert failure_in(tmp_path) == "ValueError: of two lines (in stage cam-network)"
    assert failure_in(tmp_path / "elsewhere") is None


def test_a_run_that_succeeds_later_is_no_longer_failed(tmp_path: Path) -> None:
    prepared, _, folder = finished_run(tmp_path / "store", write_image_set(tmp_path / "images"), "cam+none")
    note_failure(folder, ValueError("no"))
    write_results(prepared)
    assert failure_in(folder) is None


def test_a_launch_up_to_a_stage_keeps_the_results_of_later_stages_that_are_finished(image_set: Path, tmp_path: Path) -> None:
    full, results, folder = finished_run(tmp_path / "store", image_set, "cam+none", assignments=("backbone.weights=none",))
    part = plan_with(planner(full.experiment, full.images), full.experiment, until="cam-maps-score")
    kept = write_results(completed(part))[0]
    assert len(part.steps) < len(full.steps) and (kept["rows"], kept["stages"]) == (results["rows"], results["stages"])
    (folder / "results.json").unlink()
    assert completed(part) is part  # finished stages of other runs are not this run's results
    write_results(full)
    for path in (tmp_path / "store/stages").glob("deeplabv2-*/manifest.json"):
        path.unlink()
    assert {row["quantity"] for row in write_results(completed(part))[0]["rows"]} == {"seed", "pseudo"}
