"""A score is one file of functions and one recipe; tables, pages, files, MLflow and sweeps then know it."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import recipes as package
from imagesets.errors import WrongInput
from imagesets.item import Item, read_label_map
from metrics import counts, region
from orchestrator.pages.report import write_report
from orchestrator.planning import scores
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipes import load_all
from orchestrator.planning.references import resolve
from orchestrator.reading.comparison import compare
from orchestrator.reading.formats import comma_separated, markdown, terminal_table
from orchestrator.reading.groups import Runs
from orchestrator.reading.runs import open_run
from orchestrator.reading.tables import group_table, result_table
from orchestrator.storage.store import Store
from orchestrator.sweeps.sweep_results import findings
from orchestrator.tracking import logged
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run
from training.stage import Context, Settings

Run = tuple[Prepared, dict[str, Any], Path]

# scores what is scored already by a number that is no fraction, and the labels that networks learn from, which nothing scored
RECIPE = """
name: toy
kind: score
title: Missed pixels
quantities:
  labels: {title: Confident label, many: confident labels, word: labels, every: true, main: missed, label_maps: true}
metrics:
  missed: {title: missed, unit: pixels, better: lower, mean: all images}
settings:
  least: {default: 1, minimum: 0, help: label from which a pixel counts}
stages:
  - &one
    {name: pseudo, call: "tests.test_scores:missed", result: "tests.test_scores:result", resampled: "tests.test_scores:resampled",
     list: scoring, truth: true, store: sum, keeps: [each], reads: [masks], settings: [least]}
  - {<<: *one, name: seg, list: validation, reads: [predictions]}
  - {<<: *one, name: labels, reads: [labels]}
"""


def missed(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    (records,) = context.inputs.values()

    def one(item: Item) -> dict[str, np.ndarray]:
        count = count_missed(item.truth(), records[item.id]["label"], context.settings.least)
        return {"missed": count, "images": np.int64(1), "each": count}

    return one


def count_missed(truth: np.ndarray, label: np.ndarray, least: int = 1) -> np.int64:
    return ((truth >= least) & (truth < 255) & (label != truth)).sum()


def result(settings: Settings, classes: tuple[str, ...], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {"metrics": {"missed": float(arrays["missed"] / arrays["images"])}, "protocol": {"least": settings.least}}


def resampled(protocol: dict[str, Any], classes: tuple[str, ...], records: Iterator[dict[str, np.ndarray]]) -> Any:
    each = np.array([record["each"] for record in records])
    return lambda weights: {"missed": weights @ each / weights.sum(1)}


@pytest.mark.parametrize("name", sorted(load_all()))
def test_the_settings_quantities_and_functions_that_a_recipe_names_for_scores_exist(name: str) -> None:
    recipe = load_all()[name]
    assert set(recipe.protocol) <= recipe.settings.keys()
    assert {stage.scored for stage in recipe.stages} - {""} <= scores.quantities().keys()
    for shown in filter(None, (stage.regions for stage in recipe.stages)):
        assert callable(resolve(shown.call))
    if recipe.kind == "score":
        known = scores.quantities()
        assert all(known[stage.name].word == stage.reads[0] and stage.list for stage in recipe.stages)
        assert all(about.main in scores.metrics([quantity]) for quantity, about in recipe.quantities.items())
        assert all({plot.x, plot.y} <= recipe.metrics.keys() for plot in recipe.plots)


def test_evaluation_gives_the_metrics_that_its_recipe_declares() -> None:
    truth, label = np.array([[1, 0], [0, 0]], np.uint8), np.array([[1, 1], [0, 0]], np.uint8)
    counted = counts.of_label_map(truth, label, region.confusion(truth, label, 2))
    assert scores.metrics(["seg"]).keys() == counts.means(counted).keys()
    assert list(scores.metrics(["seed"], "tables")) == ["miou", "f", "iou_small", "precision", "recall", "fp", "fn"]
    assert list(scores.metrics(["seed"], "pages")) == ["miou", "f", "jf", "iou_small", "precision", "recall", "fp", "fn"]
    assert {name for name, (_, metric) in scores.class_metrics(["seed"]).items() if metric.better == "lower"} == {"fp", "fn"}
    of_class = region.summary(np.eye(2), ["cat"])["per_class"]["cat"] | counts.per_class(counted, ["cat"])["cat"]
    assert set(scores.class_metrics(["seed"])) == of_class.keys() - {"iou_medium", "iou_large"}


def test_scores_have_the_names_under_which_the_papers_tables_are_kept() -> None:
    declared = {scores.metric_name(name, metric, "val") for name in scores.quantities() for metric in scores.metrics([name])}
    of_maps = {f"{name}.{metric}/val" for name in ("seed", "pseudo", "seg") for metric in ("miou", "f", "jf", "fp", "fn")}
    assert of_maps | {"classification.f1/val"} <= declared


LISTS = ("images.scoring=[train, val]", "images.validation=[val, train]", "images.selection=val")


def test_any_list_can_be_scored_for_any_quantity_and_everything_tells_the_lists_apart(tmp_path: Path) -> None:
    images, store = write_image_set(tmp_path / "images"), tmp_path / "store"
    runs = [finished_run(store, images, method, assignments=LISTS) for method in ("cam+irn", "lpcam+irn")]
    places = [(row["quantity"], row["split"], row["chooses"], row["protocol"]["images"]) for row in runs[0][1]["rows"]]
    assert places == [
        *(("seed", "train", False, 6), ("seed", "val", True, 3), ("pseudo", "train", False, 6), ("pseudo", "val", True, 3)),
        *(("seg", "val", True, 3), ("seg", "train", False, 6)),
    ]
    found = compare([Runs(store).group(run[1]["run"]) for run in runs], Store(store))
    assert list(found.lines) == [place[:2] for place in places] and not found.warnings
    for (quantity, split), lines in found.lines.items():
        first, second = (
            next(row for row in run[1]["rows"] if (row["quantity"], row["split"]) == (quantity, split)) for run in runs
        )
        assert lines[1].difference is not None and lines[1].difference.interval is not None
        assert lines[1].difference.spread.mean == pytest.approx(second["metrics"]["miou"] - first["metrics"]["miou"])
    names = {f"{quantity}.miou/{split}" for quantity, split, *_ in places}
    assert names <= logged.scores(runs[0][1]["rows"]).keys()
    page = write_report(*runs[1][:2], tmp_path).read_text()
    assert all(f'{{"title": "{split}", "legend"' in page for split in ("train", "val"))
    trials = [{"values": {"a": run[1]["method"]}, "failed": {}, "group": run[0].group} for run in runs]
    record = {"name": "s", "axes": [{"name": "a"}], "random_seeds": [0], "seed.threshold": [0, 1, 0.1], "trials": trials}
    chosen = findings(Runs(store), record)
    assert chosen.metric == "seg.miou/val"  # on the list that settings are chosen on, though `train` comes after it
    assert chosen.cut is not None and chosen.cut.row.about["split"] == "val"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A further score recipe for all tests of this file."""
    folder = tmp_path_factory.mktemp("toy") / "recipes"
    shutil.copytree(Path(package.__file__).parent, folder)
    (folder / "toy.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "__file__", str(folder / "__init__.py"))
        load_all.cache_clear()
        yield
    load_all.cache_clear()


@pytest.fixture(scope="module")
def finished(toy: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Run]]:
    """A store with two runs of cam+irn that were scored by the toy as well, by random seed."""
    root = tmp_path_factory.mktemp("scores")
    images = write_image_set(root / "images")
    return root, {seed: finished_run(root / "store", images, "cam+irn", random_seed=seed) for seed in (0, 2)}


def missed_of(root: Path, run: Run, quantity: str) -> float:
    """The mean number of missed pixels, counted from the files of a run."""
    (step,) = (step for step in run[0].steps if step.stage.scores == quantity and step.stage.recipe.call.startswith("tests"))
    (source,) = step.inputs.values()
    found = []
    for shard in sorted((source.folder / "shards").glob("*.npz")):
        with np.load(shard) as records:
            for item in step.items:
                if f"{item.id}/label" in records:
                    truth = read_label_map(root / "images" / "SegmentationClass" / f"{item.id}.png")
                    found.append(count_missed(truth, records[f"{item.id}/label"]))
    assert len(found) == len(step.items)
    return float(np.mean(found))


def printed(table: Any) -> str:
    console = Console(width=250, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_scores_of_one_stage_make_one_row(finished: Any) -> None:
    root, runs = finished
    for run in runs.values():
        rows = {row["quantity"]: row for row in run[1]["rows"]}
        assert [row["quantity"] for row in run[1]["rows"]] == ["seed", "labels", "pseudo", "seg"]
        assert "missed" not in rows["seed"]["metrics"] and list(rows["labels"]["metrics"]) == ["missed"]
        for quantity in ("labels", "pseudo", "seg"):
            assert rows[quantity]["metrics"]["missed"] == pytest.approx(missed_of(root, run, quantity))
        assert rows["seg"]["metrics"]["miou"] > 0.5 and rows["seg"]["protocol"]["miou"] == "union"
        assert rows["seg"]["protocol"]["least"] == 1 and len(rows["seg"]["evaluations"]) == 2


def test_terminal_page_and_mlflow_show_it(finished: Any, tmp_path: Path) -> None:
    root, runs = finished
    results = runs[0][1]
    values = {row["quantity"]: f"{row['metrics']['missed']:.3g}" for row in results["rows"] if "missed" in row["metrics"]}
    lines = printed(result_table(results)).splitlines()
    assert "missed (pixels)" in "".join(lines)
    for quantity, value in values.items():
        assert any(line.strip().startswith(quantity) and f" {value} " in line for line in lines)
    page = write_report(*runs[0][:2], tmp_path).read_text()
    assert "missed (pixels)" in page and f"<b>{values['labels']}</b>" in page  # the tile of what it alone scores
    assert page.count(f'data-name="missed (pixels)">{values["seg"]}<') == 1
    tracked = logged.scores(results["rows"])
    assert tracked["seg.missed/val"] == results["rows"][-1]["metrics"]["missed"] and "labels.missed/train" in tracked
    both = [run[1]["rows"][-1]["metrics"]["missed"] for run in runs.values()]
    mean = f"{sum(both) / 2:.3g} ±"
    assert mean in printed(group_table(Runs(root / "store").group("cam+irn")))


def test_a_comparison_and_its_files_hold_it_with_its_interval(finished: Any) -> None:
    root, runs = finished
    groups = [Runs(root / "store").group(run[1]["run"]) for run in runs.values()]
    for group in groups:
        group.runs[0]["random_seed"] = 0  # two runs as if they were two methods
    found = compare(groups, Store(root / "store"))
    first, second = (run[1]["rows"][-1]["metrics"]["missed"] for run in runs.values())
    lines = [line for line in csv.DictReader(io.StringIO(comma_separated(found))) if line["metric"] == "missed"]
    (line,) = (line for line in lines if line["quantity"] == "seg" and line["difference"])
    assert float(line["difference"]) == pytest.approx(second - first)  # made-up counts: now and then they are equal
    assert (line["unit"], line["better"]) == ("pixels", "lower")
    assert float(line["difference_low"]) < second - first < float(line["difference_high"])
    labels = found.lines["labels", "train"][1].difference
    assert labels is not None and labels.interval is not None
    told = printed(terminal_table(found))
    assert "missed (pixels)" in told and f"{labels.spread.mean:+.3g}" in told
    assert f"{labels.interval[0]:+.3g} to {labels.interval[1]:+.3g} (6)" in told and "missed (pixels)" in markdown(found)


def test_evaluate_scores_a_folder_by_it(command: Command, finished: Any, tmp_path: Path) -> None:
    root, _ = finished
    masks = root / "images" / "SegmentationClass"
    for path in masks.glob("val_*.png"):
        label = read_label_map(path)
        Image.fromarray(np.where(label == 1, 0, label).astype(np.uint8)).save(tmp_path / path.name)
    expected = np.mean([(read_label_map(path) == 1).sum() for path in masks.glob("val_*.png")])
    words = ("evaluate", "--masks", tmp_path, "--images", f"folder:{root / 'images'}")
    code, shown, _ = command(*words, "--json", tmp_path / "scores.json")
    assert code == 0 and f"missed {expected:.3g} pixels" in shown
    assert json.loads((tmp_path / "scores.json").read_text())["metrics"]["missed"] == expected
    command(*words, "--what", "labels", "--list", "val", "--set", "toy.least=2", "--json", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["metrics"] == {"missed": 0}


def test_a_run_that_is_older_than_a_score_is_read_all_the_same(finished: Any) -> None:
    root, runs = finished
    run = open_run(root / "store", runs[0][1]["run"])
    del run.results["settings"]["toy.least"], run.results["settings"]["images.classification"]
    assert run.made("seg")[0].name == "deeplabv2-predictions"


def test_a_sweep_prefers_the_lowest_of_a_metric_that_is_better_lower(finished: Any, tmp_path: Path) -> None:
    images, trials, values = finished[0] / "images", [], {}
    for beta, seed, other in ((5.0, 0, 2), (10.0, 2, 0)):  # results that are made up depend on the random seed alone
        run = finished_run(tmp_path, images, "cam+irn", random_seed=seed, assignments=(f"irn.beta={beta}",))
        trials.append({"values": {"irn.beta": beta}, "failed": {str(other): "no memory"}, "group": run[0].group})
        values[beta] = run[1]["rows"][-1]["metrics"]["missed"]
    record = {"name": "s", "axes": [{"name": "irn.beta"}], "random_seeds": [0, 2], "seed.threshold": None, "trials": trials}
    found = findings(Runs(tmp_path), record, "seg.missed/val")
    best = min(values, key=values.__getitem__)
    assert found.trials[0].values == {"irn.beta": best} and len(set(values.values())) == 2
    assert f"{values[best]:.3g} (n=1)" in found.verdict()[0]
    assert findings(Runs(tmp_path), record).metric == "seg.miou/val"  # the last quantity that a run comes to


def test_one_metric_has_one_declaration(toy: None) -> None:
    load_all()["toy"].metrics["miou"] = load_all()["toy"].metrics["missed"]
    with pytest.raises(WrongInput, match="two score recipes declare the metric 'miou'"):
        scores.metrics(["seg"])
    del load_all()["toy"].metrics["miou"]


def test_what_no_recipe_scores_is_refused(toy: None) -> None:
    with pytest.raises(
        WrongInput, match="no score recipe has a stage 'network'; known are seed, pseudo, seg, classification, labels"
    ):
        scores.stages("network")


def test_the_settings_of_a_score_are_settings_of_a_run(toy: None) -> None:
    settings = experiment(Request("cam+irn", assignments=("toy.least=2",))).settings
    assert settings["toy.least"] == 2
