"""Checking image sets: each kind of damage is found, all of it in one go, and nothing raises."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesets.check import check
from imagesets.layout import open_image_set
from imagesets.palette import save_label_map
from tests.conftest import write_image_set

SETTINGS = {"labels": "auto", "masks": ["SegmentationClass"]}


def problems_of(root: Path, **options) -> list[str]:
    return check(open_image_set(f"folder:{root}", SETTINGS), ["train", "val"], ["train", "val"], **options)


def truncate(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def truncate_jpeg(root: Path, id: str = "train_1") -> None:
    (root / f"JPEGImages/{id}.png").unlink()
    path = root / f"JPEGImages/{id}.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)).save(path)
    truncate(path)


def rotate(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "JPEGImages/train_1.png"
    Image.open(path).save(path, exif=exif)


def append(root: Path, name: str, line: str) -> None:
    path = root / name
    path.write_text(path.read_text() + line + "\n")


def mask_of(root: Path, array: np.ndarray) -> None:
    save_label_map(root / "SegmentationClass/train_1.png", array.astype(np.uint8))


TRAIN = "ImageSets/Segmentation/train.txt"
DAMAGES = {
    "train_1.jpg is missing": lambda root: (root / "JPEGImages/train_1.png").unlink(),
    "train_1.jpg cannot be read: image file is truncated": truncate_jpeg,
    "train_1.png cannot be read": lambda root: (root / "JPEGImages/train_1.png").write_bytes(b"not an image"),
    "rotated by EXIF orientation 6": rotate,
    "has the mode I;16": lambda root: Image.new("I;16", (48, 48)).save(root / "JPEGImages/train_1.png"),
    "SegmentationClass/train_1.png is missing": lambda root: (root / "SegmentationClass/train_1.png").unlink(),
    "train_1.png is a RGB image; a mask": lambda root: Image.new("RGB", (48, 48)).save(root / "SegmentationClass/train_1.png"),
    "train_1.png cannot be read: ": lambda root: truncate(root / "SegmentationClass/train_1.png", 0.9),
    r"holds the labels \[3, 9\]": lambda root: mask_of(root, np.repeat([[3, 9]], 48, axis=0).repeat(24, axis=1)),
    "is void everywhere": lambda root: mask_of(root, np.full((48, 48), 255)),
    "is 40x48 but its image .* is 48x48": lambda root: mask_of(root, np.zeros((48, 40))),
    "names the image train_1 2 times": lambda root: append(root, TRAIN, "train_1"),
    r"share 1 images \(first: val_0\)": lambda root: append(root, TRAIN, "val_0"),
    "no list 'train'": lambda root: (root / TRAIN).unlink(),
    "train.txt is empty": lambda root: (root / TRAIN).write_text("\n"),
    "train.txt is not a UTF-8 text file": lambda root: (root / TRAIN).write_bytes(b"\xff\xfe\xfa"),
    "names the class 'disk'": lambda root: append(root, "image_labels.txt", "train_1 disk"),
    "image train_1 .*has no image-level label": lambda root: append(root, "image_labels.txt", "train_1"),
    "no line for the image train_1": lambda root: (root / "image_labels.txt").write_text(
        "".join(line for line in (root / "image_labels.txt").open() if "train_1" not in line)
    ),
}


def test_a_whole_image_set_has_no_problem(image_set):
    assert problems_of(image_set) == []


@pytest.mark.parametrize("said", DAMAGES)
def test_each_damage_is_the_one_problem_found(image_set, said):
    DAMAGES[said](image_set)
    problems = problems_of(image_set)
    assert len(problems) == 1
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(problems[0])


def test_all_problems_come_in_one_go(image_set):
    for said in ("is 40x48 but its image .* is 48x48", "names the image train_1 2 times", "names the class 'disk'"):
        DAMAGES[said](image_set)
    (image_set / "JPEGImages/val_2.png").unlink()
    assert len(problems_of(image_set)) == 4


def test_one_truncated_image_among_many_is_found_only_by_decoding(tmp_path):
    root = write_image_set(tmp_path / "many", train=200)
    truncate_jpeg(root, "train_117")
    assert problems_of(root, decode=False) == []
    for threads in (1, 4):
        (problem,) = problems_of(root, threads=threads)
        assert "train_117.jpg cannot be read" in problem


def test_lists_may_overlap_unless_one_is_held_out(image_set):
    append(image_set, TRAIN, "val_0")
    assert problems_of(image_set, held_out="test") == []
