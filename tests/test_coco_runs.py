"""Runs on COCO 2014: published rows are planned with published settings; images without labels, crowds and grey images pass."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from imagesets.coco_preparation import prepare_coco14
from orchestrator.planning.experiment import Request
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipe import Published, Recipe
from orchestrator.planning.recipes import find, load_all
from orchestrator.reading.results import write_results
from orchestrator.reading.runs import open_run
from tests.coco_images import write_coco
from tests.launching import PROGRAM, TINY
from tests.planned_run import plan_of

SEGMENTERS = [
    f"{recipe.name}{variant and '-'}{variant}"
    for recipe in load_all().values()
    if recipe.kind == "segmenter"
    for variant in ("", *recipe.variants)
]
FIGURES = [(recipe, figure) for recipe in load_all().values() for figure in recipe.published if figure.images == "coco14"]
SMALL = ("deeplabv2.crop=48", "deeplabv2.batch=2", "deeplabv2.iterations=10")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many images as a batch has, prepared."""
    found = write_coco(tmp_path_factory.mktemp("images") / "coco", train=32)
    prepare_coco14(str(found), {"rule": "recam"})
    return found


def planned(root: Path, store: Path, method: str, segmenter: str = "", assignments: Sequence[str] = ()) -> Prepared:
    return plan_of(Request(method, f"coco14:{root}", segmenter, "", ("backbone.weights=none", *assignments), store=store))


@pytest.mark.parametrize(("recipe", "figure"), FIGURES, ids=[f"{recipe.name} {figure.source}" for recipe, figure in FIGURES])
def test_every_published_figure_on_coco_is_of_a_run_that_is_planned(
    recipe: Recipe, figure: Published, root: Path, tmp_path: Path
) -> None:
    words = [*filter(None, figure.with_.split("+")), recipe.name]
    segmenter = next((word for word in words if word in SEGMENTERS), "")
    chain = "+".join(word for word in words if word != segmenter)
    assert planned(root, tmp_path, chain, segmenter).steps


@pytest.mark.parametrize(
    ("method", "segmenter"), [("mctformer", "resnet38d-mctformer"), ("recurseed", "deeplabv3plus-resnet101")]
)
def test_a_finished_run_names_the_segmenter_that_its_method_was_published_with(
    method: str, segmenter: str, root: Path, tmp_path: Path
) -> None:
    prepared = planned(root, tmp_path, method)
    prepared.planner.store.open()
    results, folder = write_results(prepared)
    run = open_run(tmp_path, folder.name)
    assert results["segmenter"] == segmenter
    assert run.stages.keys() >= {step.stage.name for step in prepared.steps}
    assert run.prediction_stage == next(step.stage for step in prepared.steps if step.stage.recipe.writes == "predictions")


def test_the_settings_that_papers_publish_for_coco_apply_by_the_name_of_the_images(root: Path, tmp_path: Path) -> None:
    found = planned(root, tmp_path, "recam+irn").settings
    published = {
        name: recipe.published_settings["coco14"] for name, recipe in load_all().items() if "coco14" in recipe.published_settings
    }
    assert {"recam", "lpcam", "amn", "deeplabv2"} <= published.keys()
    for name, settings in published.items():
        assert {key: found[f"{name}.{key}"] for key in settings} == settings
    assert found["images.name"] == "coco14" and find("coco14", ("images",))[0].segmenter == "deeplabv2-resnet101"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lpcam+amn", "recam+advcam+irn"])
def test_images_without_labels_crowds_and_grey_images_pass_every_stage(method: str, root: Path, tmp_path: Path) -> None:
    sets = [word for assignment in SMALL for word in ("--set", assignment)]
    options = ["--segmenter", "deeplabv2-small", "--store", tmp_path / "store", "--track", "none", "--engine", "local"]
    words = [PROGRAM, "launch", "--method", method, "--images", f"coco14:{root}", "--recipe", TINY, *sets, *options]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = (json.loads(path.read_text()) for path in (tmp_path / "store/runs").glob("*/results.json"))
    assert [row["quantity"] for row in results["rows"]][-2:] == ["pseudo", "seg"]
    origins = {row["protocol"]["made by rule"] for row in results["rows"]}
    assert len(origins) == 1 and origins.pop().startswith("recam, annotations ")
    assert all(row["metrics"]["miou"] >= 0 for row in results["rows"])
    assert results["command"]["images"] == f"coco14:{root}"  # which opens the images again
