"""Images in the formats that people have: TIFF, WebP, BMP, and more than 8 bits per channel by a stated rule."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagesets.check import check
from imagesets.deep_image import NO_RULE, Range, read_rgb
from imagesets.errors import WrongInput
from imagesets.file_check import file_problems
from imagesets.folder import open_folder
from imagesets.lists import IMAGE_SUFFIXES, id_of
from imagesets.skeleton import write_skeleton
from orchestrator.planning.fingerprint import Fingerprints
from tests.conftest import Command

SETTINGS = {"labels": "auto", "masks": ["SegmentationClass"]}
LOSSLESS = [(".tif", {}), (".tiff", {"compression": "tiff_lzw"}), (".bmp", {}), (".webp", {"lossless": True})]
RNG = np.random.default_rng(0)
DEEP = {  # files that hold the values [H,W] or [H,W,3] themselves
    "grey16.png": RNG.integers(0, 4096, (48, 48)).astype(np.uint16),
    "colour16.png": RNG.integers(0, 4096, (48, 48, 3)).astype(np.uint16),
    "grey16.tif": RNG.integers(0, 4096, (48, 48)).astype(np.uint16),
    "colour16.tif": RNG.integers(0, 4096, (48, 48, 3)).astype(np.uint16),
    "opaque16.png": RNG.integers(0, 4096, (48, 48, 4)).astype(np.uint16),
    "float.tif": (4095 * RNG.random((48, 48))).astype(np.float32),
    "signed.tif": RNG.integers(0, 4096, (48, 48)).astype(np.int32),
}


def images(root: Path, range: Range = NO_RULE):
    return open_folder(root, {**SETTINGS, "range": range})


def write(path: Path, values: np.ndarray) -> None:
    """Write the values with red first; OpenCV has blue first."""
    assert cv2.imwrite(str(path), values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]])


def replaced(root: Path, name: str) -> Path:
    """The place of another file of the image train_1."""
    (root / "JPEGImages/train_1.png").unlink()
    return root / "JPEGImages" / name


@pytest.mark.parametrize(("suffix", "options"), LOSSLESS)
def test_images_of_every_format_are_read_like_the_png(image_set: Path, suffix: str, options: dict) -> None:
    with Image.open(image_set / "JPEGImages/train_1.png") as file:
        pixels = np.asarray(file)
        file.save(replaced(image_set, f"train_1{suffix.upper()}"), **options)
    assert check(images(image_set), ["train"]).problems == []
    assert np.array_equal(images(image_set).items("train")[1].rgb(), pixels)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_damaged_exif_data_are_no_problem_of_the_image(image_set: Path, suffix: str, tmp_path: Path) -> None:
    with Image.open(image_set / "JPEGImages/train_1.png") as file:
        file.save(path := replaced(image_set, f"train_1{suffix}"), exif=b"Exif\0\0no header of EXIF data")
    assert check(images(image_set), ["train"]).problems == []
    write_skeleton(tmp_path / "new", ("cat",), {"a": path, "b": path}, None)
    assert (tmp_path / f"new/JPEGImages/a{suffix}").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_broken_file_of_every_format_is_found(image_set: Path, suffix: str) -> None:
    path = replaced(image_set, f"train_1{suffix}")
    Image.fromarray(RNG.integers(0, 255, (48, 48, 3)).astype(np.uint8)).save(path)
    assert check(images(image_set), ["train"]).problems == []
    whole = path.read_bytes()
    path.write_bytes(whole[: int(0.7 * len(whole))])
    (told,) = check(images(image_set), ["train"]).problems
    assert f"train_1{suffix} cannot be read" in told


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_an_id_in_a_list_may_have_the_suffix_of_every_format(suffix: str) -> None:
    assert id_of(f"JPEGImages/a.b{suffix}") == "a.b"


@pytest.mark.parametrize("suffix", [".tif", ".webp"])
def test_a_file_with_several_images_is_refused(image_set: Path, suffix: str) -> None:
    pages = [Image.fromarray(np.full((48, 48, 3), shade, np.uint8)) for shade in (0, 200)]
    pages[0].save(replaced(image_set, f"train_1{suffix}"), save_all=True, append_images=pages[1:])
    (told,) = check(images(image_set), ["train"]).problems
    assert told.endswith(f"train_1{suffix} holds 2 images; it must hold one")


def test_colours_that_readers_disagree_on_are_refused(image_set: Path) -> None:
    Image.new("LAB", (48, 48)).save(replaced(image_set, "train_1.tif"))
    for rule in (NO_RULE, (0.0, 4095.0)):
        (told,) = check(images(image_set, rule), ["train"]).problems
        assert "has the colours LAB; an image must be RGB" in told


def test_black_alone_gives_no_example_of_a_rule(image_set: Path) -> None:
    write(replaced(image_set, "train_1.png"), np.zeros((48, 48), np.uint16))
    (told,) = check(images(image_set), ["train"]).problems
    assert told.endswith("Say it by --set images.range=LOW,HIGH")


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_are_refused_without_a_rule_and_read_by_the_rule(image_set: Path, name: str) -> None:
    path = replaced(image_set, f"train_1{Path(name).suffix}")
    write(path, DEEP[name])
    (told,) = check(images(image_set), ["train"]).problems
    assert "more than 8 bits per channel, with values from" in told and "--set images.range=LOW,HIGH" in told
    assert check(images(image_set), ["train"], decode=False).problems == [told]
    (told,) = file_problems([path])  # of a plain folder, where no setting can be given
    assert "the run has no rule for such images (images.range=0,0), so convert it to 8 bits" in told and "--set" not in told
    ruled = images(image_set, (100.0, 3000.0))
    assert check(ruled, ["train"]).problems == []
    values = np.clip((DEEP[name].astype(float) - 100) / 2900, 0, 1) * 255
    expected = np.repeat(values[..., None], 3, 2) if values.ndim == 2 else values[..., :3]
    shown = ruled.items("train")[1].rgb()
    assert shown.dtype == np.uint8 and np.abs(shown - expected).max() <= 0.501


def test_a_rule_leaves_images_of_8_bits_alone(image_set: Path) -> None:
    plain, ruled = images(image_set).items("train"), images(image_set, (0.0, 4095.0)).items("train")
    assert all(np.array_equal(one.rgb(), other.rgb()) for one, other in zip(plain, ruled, strict=True))


def test_a_rule_that_shows_nothing_of_an_image_is_told(image_set: Path) -> None:
    write(replaced(image_set, "train_1.tif"), np.full((48, 48), 5000, np.uint16))
    (told,) = check(images(image_set, (0.0, 4095.0)), ["train"]).problems
    assert "has values from 5000 to 5000, of which images.range=0,4095 shows nothing" in told


@pytest.mark.parametrize("rule", [NO_RULE, (0.0, 1.0)])
def test_an_image_without_a_finite_value_is_damaged(image_set: Path, rule: Range) -> None:
    write(replaced(image_set, "train_1.tif"), np.array([[np.nan, np.inf], [np.nan, -np.inf]], np.float32))
    (told,) = check(images(image_set, rule), ["train"]).problems
    assert told.endswith("train_1.tif is damaged: none of its values is a finite number")


def test_a_rule_that_is_advised_is_finite(image_set: Path) -> None:
    write(replaced(image_set, "train_1.tif"), np.array([[np.nan, np.inf], [0.25, 0.75]], np.float32))
    (told,) = check(images(image_set), ["train"]).problems
    assert "with values from 0.25 to 0.75" in told and "such as images.range=0.25,0.75" in told


@given(low=st.integers(-1000, 1000), width=st.integers(1, 60000), value=st.integers(0, 65535))
def test_the_rule_is_linear_between_black_and_white(tmp_path_factory, low: int, width: int, value: int) -> None:
    path = tmp_path_factory.getbasetemp() / "one.png"
    write(path, np.full((2, 2), value, np.uint16))
    assert abs(read_rgb(path, (low, low + width))[0, 0, 0] - min(max((value - low) / width, 0), 1) * 255) <= 0.51


def test_not_a_number_is_black(tmp_path: Path) -> None:
    write(tmp_path / "holes.tif", np.array([[np.nan, 1.0], [2.0, 0.0]], np.float32))
    assert read_rgb(tmp_path / "holes.tif", (1.0, 2.0))[..., 0].tolist() == [[0, 0], [255, 0]]


def test_a_rule_is_part_of_the_images_fingerprint(image_set: Path, tmp_path: Path) -> None:
    plain, low, high = (images(image_set, rule).items("train") for rule in (NO_RULE, (0.0, 4095.0), (0.0, 65535.0)))
    prints = [Fingerprints(tmp_path / "store").of_images(items) for items in (plain, low, high)]
    assert len(set(prints)) == 3


@pytest.mark.parametrize("text", ["4095,0", "7,7", "4095", "0,1,2"])
def test_a_rule_of_other_numbers_is_refused(text: str, command: Command, image_set: Path) -> None:
    code, _, errors = command("images", "check", f"folder:{image_set}", "--set", f"images.range={text}")
    assert code == 2 and "images.range" in errors


def test_check_and_show_read_images_by_the_rule(command: Command, image_set: Path, tmp_path: Path) -> None:
    write(replaced(image_set, "train_1.tif"), np.full((48, 48, 3), 4095, np.uint16))
    spec = f"folder:{image_set}"
    assert command("images", "check", spec)[0] == 2
    assert command("images", "check", spec, "--set", "images.range=0,4095")[0] == 0
    sheet = "--set", "images.range=0,4095", "--output", tmp_path / "sheet.png"
    assert command("images", "show", spec, *sheet)[0] == 0


def test_channels_that_are_no_colours_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "deep.png", np.zeros((4, 4), np.uint16))
    monkeypatch.setattr(cv2, "imread", lambda *_: np.zeros((4, 4, 5), np.uint16))
    with pytest.raises(WrongInput, match="has 5 channels"):
        read_rgb(tmp_path / "deep.png", (0.0, 1.0))


def test_an_image_of_182_million_pixels_can_be_segmented_but_is_too_large_for_an_image_set(
    image_set: Path, recwarn: pytest.WarningsRecorder
) -> None:
    large = replaced(image_set, "train_1.png")
    Image.new("L", (14000, 13000), 90).save(large)
    assert file_problems([large]) == [] and not recwarn.list
    (told,) = check(images(image_set), ["train"]).problems
    assert told.endswith("train_1.png is 14000x13000; an image of an image set has at most 179 million pixels, so cut it up")
