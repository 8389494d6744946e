"""Scored stages of one component, quantities of one word, and a score without masks: each is told by its own name."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from imagesets.errors import WrongInput
from imagesets.item import Item
from orchestrator.engine.job import Job
from orchestrator.pages.report import write_report
from orchestrator.planning import scores
from orchestrator.planning.experiment import Request, experiment
from orchestrator.reading.comparison import compare
from orchestrator.reading.groups import Runs
from orchestrator.reading.tables import result_table
from orchestrator.storage.store import Store
from orchestrator.sweeps.sweep import Sweep
from orchestrator.tracking import logged
from tests.finished_run import PretendEngine, finished_run
from training.stage import Context, Settings

TOYS = {
    "twice": """
        name: twice
        kind: network
        title: A network with two scored results
        default_refiners: [none]
        settings: {seed_threshold: {default: 0.3}}
        stages:
          - {name: network, kind: train, call: "methods.cam:training", network: "methods.cam:network", writes: network}
          - &maps
            {name: first, call: "methods.cam:maps", reads: [network], writes: maps, read: "maps.reading:divided_by_maximum",
             scored: look}
          - {<<: *maps, name: second, reads: [network, maps]}
          - {<<: *maps, name: third, reads: [network, maps]}
        """,
    "counted": """
        name: counted
        kind: score
        title: Classes that have a map
        quantities:
          shown: {title: Shown map, many: shown maps, word: maps, every: true, main: maps}
          look: {title: Look, many: looks, word: maps, main: maps}
        metrics: {maps: {title: maps, unit: maps, mean: all images}}
        stages:
          - &one
            {name: look, call: "tests.test_score_names:counted", result: "tests.test_score_names:result", list: scoring,
             store: sum, reads: [maps]}
          - {<<: *one, name: shown}
        """,
    "aside": """
        name: aside
        kind: score
        title: A score of a word that nothing here writes
        quantities: {aside: {title: Aside, many: asides, word: nothing, every: true, main: aside}}
        metrics: {aside: {title: aside}}
        stages: [{name: aside, call: "tests.test_score_names:counted", list: scoring, store: sum, reads: [nothing]}]
        """,
}
pytestmark = pytest.mark.usefixtures("own_recipes")
STAGES = ["twice-first", "twice-second", "twice-third"]


def counted(context: Context) -> Any:
    def one(item: Item) -> dict[str, np.ndarray]:
        return {"maps": np.int64(len(context.inputs["maps"][item.id].keys)), "images": np.int64(1)}

    return one


def result(settings: Settings, classes: tuple[str, ...], sums: dict[str, np.ndarray]) -> dict[str, Any]:
    return {"metrics": {"maps": float(sums["maps"] / sums["images"])}, "protocol": {}}


def test_every_quantity_of_a_stage_has_a_stage_of_its_own() -> None:
    names = [stage.name for stage in experiment(Request("twice")).stages if stage.scores and stage.component == "twice"]
    assert names == [f"{stage}{kind}-score" for stage in STAGES for kind in ("", "-counted-shown")]


def test_what_scores_every_stage_with_a_word_comes_last_and_stands_for_no_word() -> None:
    last = [name for name, about in scores.quantities().items() if about.every and name != "shown"]
    assert list(scores.quantities())[-2:] == last and set(last) == {"aside", "classification"}
    assert scores.of_word("maps") == "look"


def test_rows_are_told_apart_by_their_stages_in_table_report_and_mlflow(image_set: Path, tmp_path: Path) -> None:
    lists = ("images.scoring=[train, val]",)
    prepared, results, folder = finished_run(tmp_path, image_set, "twice", assignments=lists)
    names = list(zip(logged.row_names(results["rows"]), (row["split"] for row in results["rows"]), strict=True))
    assert len(set(names)) == len(names) and ("look.twice-second", "val") in names and ("look", "train") in names
    assert {"look.twice-first.maps/train", "look.twice-second.maps/train", "look.maps/train"} <= logged.scores(
        results["rows"]
    ).keys()
    protocols = {name for name in logged.tags(results) if name.startswith("protocol.")}
    assert len(protocols) == len(names) and {"protocol.look", "protocol.look-val"} <= protocols
    console = Console(width=250, file=io.StringIO())
    console.print(result_table(results))
    page = write_report(prepared, results, folder).read_text()
    for stage in STAGES:
        assert stage in console.file.getvalue() and f"of {stage} on val" in page  # type: ignore[attr-defined]


class BlindEngine(PretendEngine):
    """An engine that has no masks to make its pretended results of."""

    def _record(self, job: Job, image: str) -> dict[str, np.ndarray]:
        maps = {"keys": np.arange(2), "size": np.array([48, 48]), "grid0": np.zeros((2, 12, 12), np.float16)}
        return maps if job.recipe.writes == "maps" else {"label": np.zeros((48, 48), np.uint8)}


def test_a_score_that_needs_no_masks_is_made_without_them_and_tells_its_images(image_set: Path, tmp_path: Path) -> None:
    shutil.rmtree(image_set / "SegmentationClass")
    (image_set / "ImageSets/Segmentation/some.txt").write_text("train_0\ntrain_1\n")
    runs = []
    for listed in ("train", "some"):
        lists = (f"images.scoring={listed}",)
        prepared, results, _ = finished_run(tmp_path, image_set, "twice", engine=BlindEngine, assignments=lists)
        assert prepared.unscored == [listed, "val"] and {row["quantity"] for row in results["rows"]} == {"look", "shown"}
        assert all(row["metrics"] == {"maps": 2} for row in results["rows"])
        runs.append(results)
    first, other = runs[0]["rows"][0]["masks"], runs[1]["rows"][0]["masks"]
    assert first and other and first != other


def test_only_counts_that_were_kept_and_are_gone_are_told(image_set: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        finished_run(tmp_path, image_set, "twice", random_seed=seed)
    groups = [Runs(tmp_path).group(name) for name in sorted(Runs(tmp_path).results)]
    for group in groups:
        group.runs[0]["random_seed"] = 0  # two runs as if they were two methods
    found = compare(groups, Store(tmp_path))
    difference = found.lines["look", "train"][1].difference
    assert difference is not None and difference.interval is None  # `counted` keeps nothing of each image
    assert not found.warnings
    for path in tmp_path.glob("stages/none-masks-score-*/manifest.json"):
        path.unlink()
    assert [warning.partition(":")[0].endswith(", pseudo on train") for warning in compare(groups, Store(tmp_path)).warnings] == [
        True
    ]


def test_thresholds_are_swept_only_where_there_are_some() -> None:
    with pytest.raises(WrongInput, match=r"seed\.threshold cannot be varied: no stage of twice makes maps that a threshold cuts"):
        Sweep(Request("twice"), (), (0.0, 1.0, 0.1), [0]).check()
    Sweep(Request("cam"), (), (0.0, 1.0, 0.1), [0]).check()
