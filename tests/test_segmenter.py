"""`Segmenter`: a run's segmenter for single images, as the run segmented its own."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import orchestrator
from imagesets.errors import WrongInput
from imagesets.palette import PALETTE
from orchestrator import Segmenter
from orchestrator.afterwards import segmenter as module
from orchestrator.afterwards.segmenter import side_of
from orchestrator.reading.runs import open_run
from orchestrator.storage.shards import StoredRecords
from tests.conftest import Command, write_image_set
from tests.finished_run import UntrainedSegmenter, finished_run

SETTINGS = ("deeplabv2.test_scales=[1.0, 0.5]", "deeplabv2.crop=48")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store and the name of its run, which tests at two scales without a CRF."""
    root = tmp_path_factory.mktemp("segmenter")
    images = write_image_set(root / "images")
    return root / "store", finished_run(root / "store", images, "cam+none", UntrainedSegmenter, assignments=SETTINGS)[2].name


@pytest.fixture(scope="module")
def loaded(finished: tuple[Path, str]) -> Segmenter:
    return Segmenter.load("cam+none", finished[0])


def photograph(finished: tuple[Path, str], number: int = 0) -> Path:
    return finished[0].parent / "images" / "JPEGImages" / f"val_{number}.png"


def test_a_path_a_picture_and_an_array_get_the_run_s_own_label_map(finished: tuple[Path, str], loaded: Segmenter) -> None:
    stored = StoredRecords(open_run(*finished).result("deeplabv2-predictions")[0])
    path = photograph(finished)
    picture = Image.open(path)
    for image in (path, str(path), picture, picture.convert("RGBA"), np.asarray(picture)):
        assert np.array_equal(loaded.predict(image), stored["val_0"]["label"])
    several = loaded.predict([photograph(finished, 0), photograph(finished, 1)])
    assert all(np.array_equal(label, stored[f"val_{number}"]["label"]) for number, label in enumerate(several))
    assert len(np.unique(several[0])) > 1 and loaded.classes == ("disc", "bar")


def test_the_highest_probability_is_the_label(finished: tuple[Path, str], loaded: Segmenter) -> None:
    found = loaded.probabilities(photograph(finished))
    assert found.shape == (3, 48, 48) and np.allclose(found.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(found.argmax(axis=0), loaded.predict(photograph(finished)))


def test_a_grey_array_is_its_grey_picture(finished: tuple[Path, str], loaded: Segmenter) -> None:
    grey = np.asarray(Image.open(photograph(finished)).convert("L"))
    assert np.array_equal(loaded.predict(grey), loaded.predict(np.stack([grey] * 3, axis=-1)))


def test_threads_are_torch_s_only_while_it_segments(
    finished: tuple[Path, str], loaded: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    for segmenter, threads in ((loaded, 1), (Segmenter.load("cam+none", finished[0], threads=3), 3)):
        seen: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(module, "segmented", lambda *_, seen=seen: seen.append(torch.get_num_threads()))
            segmenter.predict(photograph(finished))
        assert seen == [threads] and torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [-1, 0, 100_000])
def test_a_number_of_threads_that_torch_cannot_have_is_refused(finished: tuple[Path, str], threads: int) -> None:
    with pytest.raises(WrongInput, match=f"threads={threads} must be between 1 and 256"):
        Segmenter.load("cam+none", finished[0], threads=threads)


def test_a_whole_number_of_numpy_is_a_size_of_windows(finished: tuple[Path, str], loaded: Segmenter) -> None:
    large = np.tile(np.asarray(Image.open(photograph(finished))), (2, 2, 1))
    assert np.array_equal(loaded.predict(large, tile=np.int64(64)), loaded.predict(large, tile=64))


def test_windows_of_a_large_image_judge_it_as_the_whole(finished: tuple[Path, str], loaded: Segmenter) -> None:
    large = np.tile(np.asarray(Image.open(photograph(finished))), (6, 7, 1))
    whole, tiled = loaded.predict(large, tile="whole"), loaded.predict(large, tile=192)
    assert tiled.shape == whole.shape == large.shape[:2] and (tiled == whole).mean() > 0.95
    found = loaded.probabilities(large, tile=192)
    assert np.array_equal(found.argmax(axis=0), tiled)


def test_images_that_are_large_for_the_network_are_tiled_by_themselves(
    finished: tuple[Path, str], loaded: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert side_of((2048, 2048), (0, 0), "auto") == side_of((4000, 3000), (0, 0), "whole") == 0
    assert side_of((4000, 3000), (0, 0), "auto") == 1024 and side_of((100, 90), (0, 0), 64) == 64
    assert side_of((4000, 3000), (2048, 512), "auto") == 0  # the network sees 683x512 of it
    assert side_of((40000, 3000), (20480, 3000), "auto") == 2000  # in its own pixels 1024
    monkeypatch.setattr(module, "LARGEST", 40 * 40)
    monkeypatch.setattr(module, "in_windows", lambda rgb, side, of_window: np.full((1, 1), side))
    assert loaded.predict(photograph(finished)).item() == 1024


def test_an_overlay_colours_the_foreground_alone(finished: tuple[Path, str], loaded: Segmenter) -> None:
    rgb, label = np.full((48, 48, 3), 100, np.uint8), np.zeros((48, 48), np.uint8)
    label[:10], label[10:20] = 2, 255
    over = np.asarray(loaded.overlay(rgb, label, opacity=1.0))
    assert (over[:10] == PALETTE[2]).all() and (over[10:] == 100).all()
    assert np.asarray(loaded.overlay(photograph(finished))).shape == (48, 48, 3)


def oriented(orientation: int) -> Image.Image:
    """A picture with an EXIF orientation."""
    picture = Image.new("RGB", (8, 4))
    picture.getexif()[0x0112] = orientation
    return picture


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((4, 4, 3), np.float32), r"must be uint8 \[H,W,3\].*float32 \[4, 4, 3\]"),
        (np.zeros((3, 4, 4), np.uint8), r"uint8 \[3, 4, 4\]"),
        (oriented(6), "rotated by its EXIF orientation"),
        (Image.new("I;16", (8, 8)), "8 bits per channel.*I;16"),
        (Image.new("RGB", (1, 8)), "2 pixels a side.*1x8"),
        ("nowhere.jpg", "nowhere.jpg is missing"),
        (3, "a PIL image or a uint8 array, and not of the type int"),
    ],
)
def test_what_is_no_image_is_refused(loaded: Segmenter, image: object, sentence: str) -> None:
    with pytest.raises(WrongInput, match=sentence):
        loaded.predict(image)  # type: ignore[call-overload]


@pytest.mark.parametrize("orientation", [0, 1])
def test_an_upright_picture_is_taken_as_a_file_of_it_is(orientation: int, tmp_path: Path) -> None:
    picture = oriented(orientation)
    picture.save(tmp_path / "upright.png", exif=picture.getexif())
    assert np.array_equal(module.pixels(picture), module.pixels(tmp_path / "upright.png"))


def test_a_photograph_on_its_side_is_refused(loaded: Segmenter, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "side.jpg", exif=exif)
    with pytest.raises(WrongInput, match="rotated by EXIF"):
        loaded.predict(tmp_path / "side.jpg")


@pytest.mark.parametrize("tile", [3, "sometimes", 0, "640"])
def test_windows_that_are_too_small_are_refused(loaded: Segmenter, tile: int | str) -> None:
    with pytest.raises(WrongInput, match=f"tile={tile!r} is neither auto nor whole nor a number of pixels from 64 on"):
        loaded.predict(np.zeros((8, 8, 3), np.uint8), tile=tile)


def test_a_run_or_a_device_that_is_not_there_is_refused(finished: tuple[Path, str]) -> None:
    with pytest.raises(WrongInput, match="there is no finished run 'cam'"):
        Segmenter.load("cam", finished[0])
    with pytest.raises(WrongInput, match="the device 'abacus' cannot be used here"):
        Segmenter.load("cam+none", finished[0], device="abacus")


def test_the_front_door_costs_nothing_before_it_is_used() -> None:
    program = "import sys, orchestrator, orchestrator.cli; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        orchestrator.Segmentor  # noqa: B018


def test_predict_takes_an_expression_and_writes_scores_overlays_and_windows(
    command: Command, finished: tuple[Path, str], loaded: Segmenter, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(photograph(finished), tmp_path / "in")
    Image.fromarray(np.tile(np.asarray(Image.open(photograph(finished))), (3, 3, 1))).save(tmp_path / "in" / "large.png")
    words = ("predict", "cam+none", "--store", finished[0], "--images", tmp_path / "in")
    code, shown, _ = command(*words, "--to", tmp_path / "out", "--probabilities", "--overlays", "--tile", "96")
    assert code == 0 and f"2 segmentations by {finished[1]}" in shown
    for name in ("val_0", "large"):
        label = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert np.array_equal(label, loaded.predict(tmp_path / "in" / f"{name}.png", tile=96))
        found = np.load(tmp_path / "out" / "probabilities" / f"{name}.npz")["probabilities"]
        assert found.shape == (3, *label.shape) and found.dtype == np.float16
        assert (found.argmax(axis=0) == label).mean() > 0.99
        assert Image.open(tmp_path / "out" / "overlays" / f"{name}.jpg").size == label.shape[::-1]
    assert Image.open(tmp_path / "out" / "overlays" / "legend.png").height == 60
    assert command(*words, "--to", tmp_path / "plain", "--tile", "whole")[0] == 0
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "README.txt", "images.txt", "large.png", "manifest.json", "val_0.png",
    ]  # fmt: skip
    code, _, errors = command(*words, "--to", tmp_path / "wrong", "--tile", "10")
    assert code == 2 and "--tile 10 is neither auto nor whole" in errors and not (tmp_path / "wrong").exists()


def test_large_images_are_told(
    command: Command, finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 40 * 40)
    (tmp_path / "in").mkdir()
    shutil.copy(photograph(finished), tmp_path / "in")
    code, shown, _ = command("predict", "cam+none", "--store", finished[0], "--images", tmp_path / "in", "--to", tmp_path / "out")
    assert code == 0 and "1 large image is segmented in windows of 1024 pixels (--tile): val_0" in shown


def test_a_deep_image_is_read_by_the_run_s_rule(finished: tuple[Path, str], loaded: Segmenter, tmp_path: Path) -> None:
    grey = np.asarray(Image.open(photograph(finished)).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 16).save(tmp_path / "deep.png")
    with pytest.raises(WrongInput, match="more than 8 bits per channel"):
        loaded.predict(tmp_path / "deep.png")
    results = {**loaded.run.results, "settings": {**loaded.run.results["settings"], "images.range": [0.0, 255.0 * 16]}}
    with_rule = Segmenter(replace(loaded.run, results=results))
    assert np.array_equal(with_rule.predict(tmp_path / "deep.png"), loaded.predict(grey))
