"""Checking image sets: every kind of damage is found in one go, and nothing raises."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesets.check import check
from imagesets.findings import Findings, grouped
from imagesets.folder import open_folder
from imagesets.item import read_label_map
from imagesets.palette import save_label_map
from tests.conftest import write_image_set

SETTINGS = {"labels": "auto", "masks": ["SegmentationClass"]}


def problems_of(root: Path, **options) -> list[str]:
    return check(open_folder(root, SETTINGS), ["train", "val"], ["train", "val"], **options).problems


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


NUMBERS = [("a", "-1", "49"), ("b", "-0.25", "1.5e+03"), ("c", "0", "2.5"), ("d", "1e-05", "4")]
TRAIN = "ImageSets/Segmentation/train.txt"
DAMAGES = {
    "1 of 6 images of list train have no file in JPEGImages .*such as train_1;": lambda root: (
        root / "JPEGImages/train_1.png"
    ).unlink(),
    "train_1.jpg cannot be read: image file is truncated": truncate_jpeg,
    "train_1.png cannot be read": lambda root: (root / "JPEGImages/train_1.png").write_bytes(b"not an image"),
    "rotated by EXIF orientation 6": rotate,
    "has more than 8 bits per channel, with values from 0 to 0": lambda root: Image.new("I;16", (48, 48)).save(
        root / "JPEGImages/train_1.png"
    ),
    "1 of 6 images of list train have no mask in Segm.*such as train_1; choose .*images.scoring=LIST": lambda root: (
        root / "SegmentationClass/train_1.png"
    ).unlink(),
    "train_1.png is a RGB image; a mask": lambda root: Image.new("RGB", (48, 48)).save(root / "SegmentationClass/train_1.png"),
    "train_1.png is a JPEG file, whatever its name says; a mask must be a PNG": lambda root: Image.new("L", (48, 48)).save(
        root / "SegmentationClass/train_1.png", format="JPEG"
    ),
    "train_1.png cannot be read: ": lambda root: truncate(root / "SegmentationClass/train_1.png", 0.9),
    r"holds the labels \[3, 9\]": lambda root: mask_of(root, np.repeat([[3, 9]], 48, axis=0).repeat(24, axis=1)),
    "is void everywhere": lambda root: mask_of(root, np.full((48, 48), 255)),
    "is 40x48 but its image .* is 48x48": lambda root: mask_of(root, np.zeros((48, 40))),
    "names the image train_1 2 times; once is right": lambda root: append(root, TRAIN, "train_1"),
    r"names the image train_1 2 times \(train_1, other/train_1.png\); once": lambda root: append(
        root, TRAIN, "other/train_1.png"
    ),
    r"share 1 images \(first: val_0\)": lambda root: append(root, TRAIN, "val_0"),
    "no list 'train'": lambda root: (root / TRAIN).unlink(),
    "train.txt is empty": lambda root: (root / TRAIN).write_text("\n"),
    "train.txt is not a UTF-8 text file": lambda root: (root / TRAIN).write_bytes(b"\xff\xfe\xfa"),
    "names the class 'disk'": lambda root: append(root, "image_labels.txt", "train_1 disk"),
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
    for said in (
        "is 40x48 but its image .* is 48x48",
        "names the image train_1 2 times; once is right",
        "names the class 'disk'",
    ):
        DAMAGES[said](image_set)
    (image_set / "JPEGImages/val_2.png").unlink()
    assert len(problems_of(image_set)) == 4


def test_one_truncated_image_among_many_is_found_only_by_decoding(tmp_path):
    root = write_image_set(tmp_path / "many", train=200)
    truncate_jpeg(root, "train_117")
    assert problems_of(root, decode=False) == []
    (problem,) = problems_of(root)
    assert "train_117.jpg cannot be read" in problem


def test_lists_may_overlap_unless_one_is_held_out(image_set):
    append(image_set, TRAIN, "val_0")
    assert problems_of(image_set, held_out=["test"]) == []


def warnings_of(root: Path, lists: tuple[str, ...] = ("train", "val")) -> list[str]:
    found = check(open_folder(root, SETTINGS), lists, lists)
    assert not found.problems
    return found.warnings


def all_labels(root: Path, names: str) -> None:
    ids = [line.split()[0] for line in (root / "image_labels.txt").read_text().splitlines()]
    (root / "image_labels.txt").write_text("".join(f"{id} {names}\n" for id in ids))


def test_a_list_to_learn_from_needs_an_image_with_a_class(image_set):
    all_labels(image_set, "")
    images = open_folder(image_set, SETTINGS)
    (told,) = check(images, ["train"], labelled=["train"]).problems
    assert told == "no image of list train shows any class (labels from list); there is nothing to learn from it"
    assert check(images, ["train"]).problems == []  # of a run that learns from masks alone
    (image_set / "image_labels.txt").write_text("other bar\n")
    found = check(open_folder(image_set, SETTINGS), ["train"], labelled=["train"])
    assert not any("shows any class" in problem for problem in found.problems)  # no image has labels at all


def test_images_without_labels_are_no_problem(image_set):
    (image_set / "image_labels.txt").write_text((image_set / "image_labels.txt").read_text().replace("train_1 bar", "train_1"))
    mask_of(image_set, np.zeros((48, 48)))
    assert warnings_of(image_set) == []


def test_masks_that_contradict_the_labels_are_suspicious(image_set):
    for path in (image_set / "SegmentationClass").glob("train_*.png"):
        label = read_label_map(path)
        save_label_map(path, np.choose(label, [0, 2, 1]).astype(np.uint8))
    (warning,) = warnings_of(image_set)
    assert warning.startswith(
        "4 of 9 masks show other classes than the labels of their images, such as train_1 (labels bar; mask disc)"
    )


@pytest.mark.parametrize("value", [0, 255])
def test_masks_without_a_labelled_class_are_suspicious(image_set, value):
    array = np.full((48, 48), value)
    array[0] = 0
    mask_of(image_set, array)
    (warning,) = warnings_of(image_set)
    assert warning.startswith("1 of 9 masks show other classes") and "train_1 (labels bar; mask none)" in warning


def test_a_class_that_no_image_or_every_image_shows_is_suspicious(image_set):
    all_labels(image_set, "bar")
    told = warnings_of(image_set)
    assert "no image of list train shows disc (labels from list)" in told
    (image_set / "classes.txt").write_text("bar\n")
    for path in (image_set / "SegmentationClass").glob("*.png"):
        save_label_map(path, np.minimum(read_label_map(path), 1))
    (told,) = (told for told in warnings_of(image_set) if told.startswith("every image of list"))  # nothing is learnt from val
    assert told.startswith("every image of list train shows bar (labels from list)")
    assert told.endswith("such as images that show no class: they have a line with their id alone")


def test_annotations_in_another_spelling_are_refused(image_set):
    (image_set / "image_labels.txt").unlink()
    (image_set / "Annotations").mkdir()
    for path in (image_set / "JPEGImages").iterdir():
        xml = "<annotation><object><name>Disc</name></object><object><name> bar </name></object></annotation>"
        (image_set / f"Annotations/{path.stem}.xml").write_text(xml)
    (told,) = problems_of(image_set)
    assert "train_0.xml names 'Disc'; the class is 'disc', with these capitals (and 8 more" in told
    for path in (image_set / "Annotations").iterdir():
        path.write_text(path.read_text().replace("Disc", "disc"))
    assert problems_of(image_set) == [] and not any("no image of list" in warning for warning in warnings_of(image_set))


def test_an_overlap_is_told_once(image_set):
    append(image_set, "ImageSets/Segmentation/val.txt", "train_1")
    found = check(open_folder(image_set, SETTINGS), ["train", "val"], learnt=["train", "train"], held_out=["val"]).problems
    assert len(found) == 1 and "share 1 images" in found[0]


def test_problems_that_differ_in_numbers_alone_are_one_kind():
    found = [(id, f"{id}.npy holds values from {low} to {high}") for id, low, high in NUMBERS]
    assert grouped(found) == ["a.npy holds values from -1 to 49 (and 3 more of the kind: b, c, d)"]


def test_files_that_are_not_read_are_told(image_set):
    for name in ("a.heic", "b.GIF"):
        (image_set / "JPEGImages" / name).write_bytes(b"")
    for path in (image_set / "SegmentationClass").iterdir():
        path.rename(path.with_suffix(".jpg"))
    told = warnings_of(image_set)
    assert f"images in {image_set / 'JPEGImages'} in formats that are not read: 2 (a.heic, b.GIF)" in told
    assert "nothing can be scored on it; " in told[0] and "train_0.jpg is a JPEG, which changes labels" in told[0]


def test_a_column_of_0_and_1_that_is_no_class_is_told(image_set):
    (image_set / "image_labels.txt").unlink()
    ids = [path.stem for path in (image_set / "JPEGImages").iterdir()]
    rows = [f"{id},{number % 2},{(number + 1) % 2},{number % 2},{number}" for number, id in enumerate(ids)]
    (image_set / "image_labels.csv").write_text("\n".join(["image,disc,bar,ring,number", *rows]))
    told = f"{image_set / 'image_labels.csv'} has columns of 0 and 1 that are no class and are not read: ring"
    assert told in warnings_of(image_set)


def test_a_list_without_any_mask_needs_none_and_a_list_without_some_does(image_set):
    for path in (image_set / "SegmentationClass").glob("val_*.png"):
        path.unlink()
    told = "no image of list val has a mask in SegmentationClass, so nothing can be scored on it"
    assert warnings_of(image_set) == [told]
    (image_set / "SegmentationClass/train_2.png").unlink()
    (problem,) = problems_of(image_set)
    assert problem.startswith("1 of 6 images of list train have no mask in SegmentationClass under")


def test_a_list_that_is_learnt_from_and_held_out_is_suspicious(image_set):
    found = check(open_folder(image_set, SETTINGS), ["val"], ["val"], learnt=["val"])
    assert found == Findings([], ["list val is both learnt from and held out"], ())


def test_what_repeats_is_said_once_and_the_images_are_told(tmp_path):
    root = write_image_set(tmp_path / "many", train=40)
    for number in range(10, 40):
        (root / f"SegmentationClass/train_{number}.png").unlink()
    for number in range(8):
        Image.new("I;16", (48, 48)).save(root / f"JPEGImages/train_{number}.png")
    found = check(open_folder(root, SETTINGS), ["train"], ["train"])
    masks, modes = found.problems
    assert (
        masks.startswith("30 of 40 images of list train have no mask") and "such as train_10, train_11, train_12, ...;" in masks
    )
    assert "train_0.png has more than 8 bits per channel" in modes and modes.endswith(
        "(and 7 more of the kind: train_1, train_2, train_3, ...)"
    )
    assert set(found.ids) == {f"train_{number}" for number in (*range(8), *range(10, 40))}


@pytest.mark.parametrize("side", [(17, 500), (500, 17), (2, 2)])
def test_odd_sizes_are_no_problem(image_set, side):
    Image.new("RGB", side).save(image_set / "JPEGImages/train_1.png")
    mask_of(image_set, np.full(side[::-1], 2))
    assert problems_of(image_set) == []


@pytest.mark.parametrize("side", [(1, 1), (1, 48)])
def test_an_image_too_small_for_the_published_scales_is_refused(image_set, side):
    Image.new("RGB", side).save(image_set / "JPEGImages/train_1.png")
    mask_of(image_set, np.full(side[::-1], 2))
    (problem,) = problems_of(image_set)
    assert problem.endswith(f"train_1.png is {side[0]}x{side[1]}; an image must have at least 2 pixels a side")


def test_a_list_of_which_everything_is_excluded_says_so(image_set):
    (image_set / "out.txt").write_text((image_set / "ImageSets/Segmentation/val.txt").read_text())
    found = check(open_folder(image_set, SETTINGS).without(image_set / "out.txt"), ["train", "val"])
    (problem,) = found.problems
    assert problem.startswith("all images of") and problem.endswith("val.txt are excluded; a list must name at least one image")
