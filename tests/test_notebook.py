"""`launch` and `Results` in Python: the command's own refusals, and the stored results by image id."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesets.errors import WrongInput
from orchestrator import Results, launch
from orchestrator.notebook import _words
from orchestrator.reading.runs import open_run
from orchestrator.storage.shards import StoredRecords
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run
from tests.launching import TINY

SMALL = {"deeplabv2.crop": 48, "deeplabv2.batch": 2, "deeplabv2.iterations": 10}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one launch of two random seeds."""
    root = tmp_path_factory.mktemp("notebook")
    images = write_image_set(root / "images")
    for seed in (0, 1):
        finished_run(root / "store", images, "lpcam+irn", random_seed=seed)
    return root / "store"


def test_scores_of_all_runs_are_one_frame_with_their_protocol(store: Path) -> None:
    frame = Results.load("lpcam+irn", store).scores
    rows = [row for run in Results.load("lpcam+irn", store).runs for row in run.results["rows"]]
    assert frame.random_seed.tolist() == [0, 0, 0, 1, 1, 1] and frame.quantity.tolist()[:3] == ["seed", "pseudo", "seg"]
    assert frame.miou.tolist() == [row["metrics"]["miou"] for row in rows]
    assert frame.protocol.tolist() == [row["protocol"] for row in rows] and frame.protocol[0]["split"] == "train"
    assert frame.threshold[0] == rows[0]["protocol"]["threshold"] and frame.oracle[0] == rows[0]["oracle"]["miou"]
    classes = Results.load("lpcam+irn", store).per_class
    assert classes["class"].tolist()[:3] == ["background", "disc", "bar"] and classes.iou.notna().any()


def test_a_launch_without_scores_has_empty_frames_with_their_columns() -> None:
    results = Results([])
    assert results.scores.groupby(["quantity", "of", "split"]).miou.agg(["mean", "std"]).empty
    assert results.per_class.groupby("class").iou.mean().empty


def test_maps_and_label_maps_come_by_image_id(store: Path) -> None:
    results = Results.load("lpcam+irn", store)
    run = open_run(store, results.names[1])
    assert set(results.ids("maps")) == {f"train_{number}" for number in range(6)} != set(results.ids("segmentations"))
    maps = results.maps("train_0")
    assert list(maps) == ["disc", "bar"] and all(plane.shape == (48, 48) for plane in maps.values())
    assert not np.array_equal(results.maps("train_0", random_seed=1)["bar"], maps["bar"])
    stored = StoredRecords(run.result("irn-masks")[0])
    assert np.array_equal(results.masks("train_1", random_seed=1), stored["train_1"]["label"])
    assert results.segmentations("val_0").dtype == np.uint8
    with Image.open(store.parent / "images" / "JPEGImages" / "val_0.png") as picture:
        assert np.array_equal(results.image("val_0"), picture)
    assert "miou" in results._repr_html_() and results.names[0] in repr(results)


def test_one_run_is_opened_by_its_name_and_a_launch_by_its_own(store: Path) -> None:
    both = Results.load("lpcam+irn", store).names
    assert Results.load(both[1], store).names == [both[1]]
    assert Results.load(both[0].rpartition("-")[0], store).names == both


def test_what_is_not_there_is_refused_with_the_nearest(store: Path) -> None:
    results = Results.load("lpcam+irn", store)
    with pytest.raises(WrongInput, match=r"no maps of an image 'train_11'; did you mean 'train_1'\?"):
        results.maps("train_11")
    with pytest.raises(WrongInput, match=r"images has no image 'val_00'; did you mean 'val_0'\?"):
        results.image("val_00")
    with pytest.raises(WrongInput, match="no run of random seed 7; there are 0, 1"):
        results.masks("train_0", random_seed=7)
    with pytest.raises(WrongInput, match="maps, masks, segmentations of images, and no seeds"):
        results.ids("seeds")
    with pytest.raises(WrongInput, match="has finished no run"):
        Results([]).run()


@pytest.mark.parametrize(
    ("options", "words", "sentence"),
    [
        (
            {"method": "cam+nonee"},
            ("--method", "cam+nonee"),
            "there is no method or refiner called 'nonee'; did you mean 'none'?",
        ),
        (
            {"method": "cam+none", "settings": {"cam.epoch": 3}},
            ("--method", "cam+none", "--set", "cam.epoch=3"),
            "there is no setting 'cam.epoch'",
        ),
        ({"method": "cam+none", "images": "folder:/no"}, ("--method", "cam+none", "--images", "folder:/no"), "/no"),
        (
            {"method": "cam+none", "engine": "local", "address": "head"},
            ("--method", "cam+none", "--engine", "local", "--address", "head"),
            "give one of them",
        ),
        ({"method": "cam+none", "masks_from": ""}, ("--method", "cam+none", "--masks-from", ""), "empty; is it a variable"),
        ({"method": "cam+none", "runs": 0}, ("--method", "cam+none", "--runs", "0"), "0 is not in the range"),
    ],
)
def test_the_command_s_refusals_are_errors_in_python(
    command: Command, tmp_path: Path, options: dict, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(WrongInput) as refused:
        launch(**options, store=tmp_path / "store")
    code, _, errors = command("launch", *words, "--store", tmp_path / "store")
    assert code == 2 and sentence in str(refused.value) and sentence in errors


def test_an_option_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="No such option: --metod"):
        launch("cam+none", metod="x", store=tmp_path)


def test_no_random_seeds_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="random_seeds is empty"):
        launch("cam+none", random_seeds=[], store=tmp_path)


def test_options_become_words_of_the_command() -> None:
    options = {"plan": True, "quick": False, "address": None, "random_seeds": np.array([0, 2]), "network_from": Path("a.pt")}
    assert list(_words({"cam.scales": [1.0, 0.5], "cam.loss": "bce", "cam.x": True}, options)) == [
        "--set", "cam.scales=[1.0, 0.5]", "--set", "cam.loss=bce", "--set", "cam.x=true",
        "--plan", "--random-seeds", "0,2", "--network-from", "a.pt",
    ]  # fmt: skip


def test_a_plan_finishes_no_run(image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {
        "store": tmp_path / "store",
        "recipe": str(TINY),
        "segmenter": "deeplabv2-small",
        "settings": SMALL,
        "plan": True,
    }
    plan = launch("cam+none", f"folder:{image_set}", **options)
    assert "cam-network" in capsys.readouterr().out and plan.names == [] and not (tmp_path / "store").exists()
    assert launch("cam+none", f"folder:{image_set}", quiet=True, **options).names == [] and not capsys.readouterr().out


def test_a_quiet_launch_of_several_random_seeds_raises_the_reason_of_each_failure(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.launch._carry_out", lambda *_, **__: [None, RuntimeError("no space")])
    with pytest.raises(RuntimeError, match=r"continues them:\n  random seed 1 failed: .*no space"):
        launch(
            "cam+none", f"folder:{image_set}", store=tmp_path, recipe=str(TINY), segmenter="deeplabv2-small",
            settings=SMALL, runs=2, quiet=True,
        )  # fmt: skip


SCRIPT = """
from orchestrator import notebook
from orchestrator.engine.in_processes import in_processes

notebook._command = lambda words: list(in_processes(1, str, words))
notebook.launch("cam+none")
"""


def test_a_script_whose_worker_processes_launch_again_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    last = ran.stderr.strip().rpartition("\n")[2]
    assert ran.returncode == 1 and last.endswith("worker processes import the script and would launch again")


@pytest.mark.slow
def test_a_launch_gives_its_results_and_leaves_the_notebook_s_logging_alone(image_set: Path, tmp_path: Path) -> None:
    before = logging.getLogger().handlers[:]
    results = launch(
        "cam+none", f"folder:{image_set}", store=tmp_path / "store", recipe=str(TINY), segmenter="deeplabv2-small",
        settings=SMALL, engine="local", track="none", random_seeds=[0, 1], quiet=True,
    )  # fmt: skip
    assert logging.getLogger().handlers == before
    assert set(results.scores.random_seed) == {0, 1} and results.maps("train_0")
    assert np.array_equal(results.segmenter().predict(image_set / "JPEGImages" / "val_0.png"), results.segmentations("val_0"))
    assert Results.load("cam+none", tmp_path / "store").names == results.names
