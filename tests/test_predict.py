"""`predict` segments a plain folder as the run segmented its own images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesets.errors import WrongInput
from imagesets.item import read_label_map
from orchestrator.afterwards.predict import predictor
from orchestrator.reading.runs import open_run
from orchestrator.storage.shards import StoredRecords
from tests.conftest import Command, write_image_set
from tests.finished_run import UntrainedSegmenter, finished_run

SETTINGS = ("deeplabv2.test_scales=[1.0, 0.5]", "deeplabv2.mirror=true", "deeplabv2.crf=deeplab", "deeplabv2.crop=48")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store and the name of a run whose segmenter tests at two scales, with mirror images and a CRF."""
    root = tmp_path_factory.mktemp("predict")
    images = write_image_set(root / "images")
    return root / "store", finished_run(root / "store", images, "cam+none", UntrainedSegmenter, assignments=SETTINGS)[2].name


@pytest.fixture
def photographs(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """The run's validation images in a plain folder, among other files."""
    folder = tmp_path / "photographs"
    (folder / "below").mkdir(parents=True)
    for path in (finished[0].parent / "images" / "JPEGImages").glob("val_*.png"):
        shutil.copy(path, folder)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("cpus", [0, 2])  # 2: by a pipeline, as on a GPU
def test_the_run_s_own_validation_images_get_the_run_s_own_segmentations(
    command: Command, finished: tuple[Path, str], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int
) -> None:
    monkeypatch.setattr("orchestrator.afterwards.predict._place", lambda: ("cpu", cpus))
    store, run = finished
    code, shown, _ = command("predict", run, "--store", store, "--images", photographs, "--to", tmp_path / "out")
    assert code == 0 and "3 segmentations" in shown
    stored = StoredRecords(open_run(store, run).result("deeplabv2-predictions")[0])
    labels = {path.stem: read_label_map(path) for path in (tmp_path / "out").glob("*.png")}
    assert labels.keys() == set(stored) and all(np.array_equal(label, stored[id]["label"]) for id, label in labels.items())
    assert len({int(value) for label in labels.values() for value in np.unique(label)}) > 1  # equal because empty would not count


def test_the_manifest_names_the_segmenter_and_its_test_settings(
    command: Command, finished: tuple[Path, str], photographs: Path, tmp_path: Path
) -> None:
    store, run = finished
    command("predict", run, "--store", store, "--images", photographs, "--to", tmp_path / "out", "--format", "coco-rle")
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert about["digest"] == open_run(store, run).result("deeplabv2-segmenter")[1]["digest"]
    assert about["settings"]["test_scales"] == [1.0, 0.5] and about["settings"]["crf"] == "deeplab"
    assert (tmp_path / "out" / "results.json").is_file() and about["values"]["2"] == "bar"


def test_a_segmentation_that_reads_results_of_the_run_s_images_is_refused(finished: tuple[Path, str]) -> None:
    run = open_run(*finished)
    stage = run.stages["deeplabv2-predictions"]
    run.stages["deeplabv2-predictions"] = replace(stage, inputs={**stage.inputs, "maps": run.stages["cam-maps"]})
    with pytest.raises(WrongInput, match="deeplabv2-predictions reads the maps of each image"):
        predictor(run, "cpu", 0)


def test_grey_and_transparent_images_are_read_as_rgb(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56), np.uint8)
    modes = {"grey": Image.fromarray(pixels), "rgb": Image.fromarray(np.stack([pixels] * 3, -1))}
    modes["transparent"] = modes["rgb"].convert("RGBA")
    (tmp_path / "in").mkdir()
    for name, image in modes.items():
        image.save(tmp_path / "in" / f"{name}.PNG")
    assert command("predict", finished[1], "--store", finished[0], "--images", tmp_path / "in", "--to", tmp_path / "out")[0] == 0
    labels = [read_label_map(tmp_path / "out" / f"{name}.png") for name in modes]
    assert labels[0].shape == (40, 56) and all(np.array_equal(label, labels[0]) for label in labels)


def test_everything_that_cannot_be_read_is_told_before_anything_is_computed(
    command: Command, finished: tuple[Path, str], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.afterwards.predict.predictor", lambda *_: pytest.fail("something was computed"))
    (photographs / "val_0.png").write_bytes((photographs / "val_0.png").read_bytes()[:200])
    (photographs / "words.jpg").write_text("no image")
    shutil.copy(photographs / "val_1.png", photographs / "val_1.jpeg")
    code, _, errors = command("predict", finished[1], "--store", finished[0], "--images", photographs, "--to", tmp_path / "out")
    assert code == 2 and not (tmp_path / "out").exists()
    assert all(name in errors for name in ("val_0.png cannot be read", "words.jpg cannot be read", "val_1.png of another image"))


def test_images_in_other_formats_and_in_folders_below_are_told(
    command: Command, finished: tuple[Path, str], photographs: Path, tmp_path: Path
) -> None:
    (photographs / "b.heic").write_bytes(b"")
    (photographs / "more").mkdir()
    shutil.copy(photographs / "val_0.png", photographs / "more/c.PNG")
    code, shown, _ = command("predict", finished[1], "--store", finished[0], "--images", photographs, "--to", tmp_path / "out")
    assert code == 0 and "images in" in shown and "in formats that are not read: 1 (b.heic)" in shown
    assert "are not segmented: 1 (more/c.PNG)" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("empty", "holds no image"), ("nowhere", "there is no such folder"), ("a.jpg", "this is a file; give its folder")],
)
def test_a_folder_without_images_is_refused(
    command: Command, finished: tuple[Path, str], tmp_path: Path, name: str, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.jpg").touch()
    code, _, errors = command("predict", finished[1], "--store", finished[0], "--images", tmp_path / name, "--to", tmp_path / "o")
    assert code == 2 and sentence in errors


def test_a_folder_in_use_is_refused_before_anything_is_computed(
    command: Command, finished: tuple[Path, str], photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.afterwards.predict.predictor", lambda *_: pytest.fail("something was computed"))
    code, _, errors = command("predict", finished[1], "--store", finished[0], "--images", photographs, "--to", photographs)
    assert code == 2 and "exists and is not an empty folder" in errors
