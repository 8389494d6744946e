"""`folder-per-class:PATH`: the folder of an image is its label."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesets.check import check
from imagesets.errors import WrongInput
from imagesets.folder_per_class import open_folder_per_class
from imagesets.image_set import ImageSet
from imagesets.palette import save_label_map
from tests.conftest import Command

SETTINGS = {"range": [0.0, 0.0]}


def put(path: Path, shade: int) -> Path:
    """A picture of one shade: equal shades are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((48, 48, 3), shade, np.uint8)).save(path)
    return path


def opened(root: Path) -> ImageSet:
    return open_folder_per_class(root, SETTINGS)


def labels(images: ImageSet, name: str) -> dict[str, list[str]]:
    return {item.id: [images.classes[index] for index in item.labels] for item in images.items(name)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve images of cats and sea lions, one of both, one of none."""
    for number in range(6):
        put(tmp_path / f"pets/cat/{number}.jpg", number)
        put(tmp_path / f"pets/sea lion/{number}.png", 100 + number)
    put(tmp_path / "pets/cat/both.png", 200)
    put(tmp_path / "pets/sea lion/both.png", 200)
    put(tmp_path / "pets/none/empty.webp", 250)
    return tmp_path / "pets"


def test_the_folder_is_the_label(root: Path) -> None:
    images = opened(root)
    found = labels(images, "train + val")
    assert images.classes == ("cat", "sea lion") and len(found) == 6 + 6 + 2
    assert found["cat-3"] == ["cat"] and found["sea_lion-3"] == ["sea lion"] and found["none-empty"] == []
    assert found["cat-both"] == ["cat", "sea lion"]  # one picture in both folders


@pytest.mark.parametrize("name", ["None", "NONE", "Background"])
def test_the_folder_of_images_without_a_class_has_any_capitals(root: Path, name: str) -> None:
    (root / "none").rename(root / name)
    images = opened(root)
    assert images.classes == ("cat", "sea lion") and labels(images, "train + val")[f"{name}-empty"] == []


def test_a_listed_class_may_be_called_none(root: Path) -> None:
    (root / "classes.txt").write_text("cat\nsea lion\nnone\n")
    assert labels(opened(root), "train + val")["none-empty"] == ["none"]


def test_a_fifth_is_held_out_and_no_image_is_in_both_lists(root: Path) -> None:
    images = opened(root)
    train, val = images.ids("train"), images.ids("val")
    assert len(val) == 3 and len(train) == 11 and not set(train) & set(val) and opened(root).ids("val") == val


def test_images_with_a_mask_are_held_out(root: Path) -> None:
    for name in ("cat/1", "sea lion/2", "sea lion/both"):
        place = root / "masks" / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        save_label_map(place, np.ones((48, 48), np.uint8))
    images = opened(root)
    assert images.ids("val") == ("cat-1", "cat-both", "sea_lion-2") and images.with_mask("val") == 3
    assert images.items("val", with_masks=True)[0].mask == root / "masks/cat/1.png"
    assert len(images.ids("train")) == 11


def test_masks_are_found_however_their_suffix_is_written_and_others_are_told(root: Path) -> None:
    for name in ("cat/1.PNG", "cat/both.png", "sea lion/both.png", "cat/77.png", "cat/2.jpg", "dog/1.png"):
        (root / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ones((48, 48), np.uint8)).save(root / "masks" / name)
    images = opened(root)
    assert images.ids("val") == ("cat-1", "cat-both")
    (told,) = [one for one in check(images, ["train"]).warnings if "masks" in one]
    assert told.startswith(f"3 files in {root / 'masks'} are no mask of an image: cat/2.jpg, cat/77.png, dog/1.png; the mask of")
    shutil.copy(root / "masks/cat/1.PNG", root / "masks/cat/1.png")
    assert "the image cat-1 has 2 files" in opened(root).mask_problems("val", ["cat-1"], opened(root).masks())[0]


def test_folders_of_lists_are_the_lists(root: Path, tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        shutil.copytree(root, tmp_path / "split" / name)
    images = opened(tmp_path / "split")
    assert sorted(images.lists) == ["test", "train", "val"]  # type: ignore[attr-defined]
    assert labels(images, "test")["test-cat-both"] == ["cat", "sea lion"] and len(images.ids("val")) == 14
    (tmp_path / "split/val/cat/lost.jpg").symlink_to("nowhere")
    told = check(opened(tmp_path / "split"), ["train", "val"]).warnings
    pair = f"{tmp_path / 'split/test/cat/0.jpg'} and {tmp_path / 'split/train/cat/0.jpg'}"
    assert f"14 pictures are in several lists, such as {pair}; a list that is held out must share none" in told
    with pytest.raises(WrongInput, match="has no list 'holdout'; it has test, train, val, and the images of another list would"):
        images.ids("holdout")


def test_classes_txt_gives_the_order(root: Path) -> None:
    (root / "classes.txt").write_text("sea lion\ndog\ncat\n")
    images = opened(root)
    assert images.classes == ("sea lion", "dog", "cat") and labels(images, "train + val")["cat-1"] == ["cat"]
    (root / "classes.txt").write_text("cat\n")
    with pytest.raises(WrongInput, match="has the folder 'sea lion', which is no class of"):
        opened(root)


@pytest.mark.parametrize(("of_folder", "of_list"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_class_is_matched_whether_its_accents_are_apart_or_not(root: Path, of_folder: str, of_list: str) -> None:
    (root / "cat").rename(root / unicodedata.normalize(of_folder, "kätzchen"))
    (root / "classes.txt").write_text(unicodedata.normalize(of_list, "sea lion\nkätzchen\n"), encoding="utf-8")
    assert labels(opened(root), "train + val")["kätzchen-3"] == ["kätzchen"]


def test_classes_that_differ_in_capitals_alone_must_be_listed(root: Path, tmp_path: Path) -> None:
    put(root / "Cat/1.jpg", 7)
    with pytest.raises(WrongInput, match=r"names 'Cat' and 'cat'; write them alike, or name both as classes in classes.txt"):
        opened(root)
    (root / "classes.txt").write_text("Cat\ncat\nsea lion\n")  # such as letters
    assert opened(root).classes == ("Cat", "cat", "sea lion")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("1.jpg", "is in no folder of a class; an image without any class belongs in "),
        ("cat/more/1.jpg", "more is a folder in a folder of a class"),
    ],
)
def test_images_in_other_places_are_refused(root: Path, place: str, said: str) -> None:
    put(root / place, 7)
    with pytest.raises(WrongInput, match=said):
        opened(root)


def test_images_below_the_folder_of_a_class_are_refused_in_lists_too(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "split/train")
    (tmp_path / "split/train/cat/@eaDir").mkdir()  # of a network drive
    assert opened(tmp_path / "split").classes
    put(tmp_path / "split/train/cat/more/1.jpg", 7)
    with pytest.raises(WrongInput, match=r"more is a folder in a folder of a class; images are in .*/split/train/cat itself"):
        opened(tmp_path / "split")


def test_what_macos_adds_to_an_archive_is_no_class(root: Path) -> None:
    before = opened(root)
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX/._1.jpg").write_bytes(b"")
    assert opened(root) == before


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(WrongInput, match=r"has no images in .*/CLASS nor in .*/LIST/CLASS"):
        opened(tmp_path)
    with pytest.raises(WrongInput, match="is no folder; it must have a folder for each class"):
        opened(tmp_path / "nothing")


def test_two_files_of_one_id_are_found(root: Path) -> None:
    put(root / "cat/1.png", 33)
    put(root / "sea_lion/3.png", 34)
    images = opened(root)
    told = " ".join(check(images, ["train", "val"]).problems)
    assert all(id in told and id in images.images().doubled for id in ("cat-1", "sea_lion-3")) and "it must have one" in told


def test_a_link_to_nowhere_is_an_image_that_is_missing(root: Path) -> None:
    (root / "sea lion/both.png").unlink()
    (root / "sea lion/both.png").symlink_to("nowhere")
    images = opened(root)
    assert check(images, ["train", "val"]).problems == [f"{root / 'sea lion/both.png'} is missing"]
    assert labels(images, "train + val")["cat-both"] == ["cat"]


@pytest.mark.parametrize("place", [b"cat/\xff.jpg", b"caf\xe9/1.jpg"])
def test_a_name_that_is_not_utf8_is_told(root: Path, place: bytes) -> None:
    put(Path(os.fsdecode(os.fsencode(root / "") + b"/" + place)), 7)
    with pytest.raises(WrongInput, match=r"pets has a file or folder whose name is not UTF-8, '(cat-\\udcff|caf\\udce9)'"):
        opened(root)


def test_the_commands_take_it(root: Path, command: Command, tmp_path: Path) -> None:
    spec = f"folder-per-class:{root}"
    code, shown, _ = command("images", "check", spec)
    assert code == 0 and "its image-level labels come from the folders of the classes" in shown
    assert command("images", "show", spec, "--output", tmp_path / "sheet.png")[0] == 0
    plain = "backbone.weights=none", "backbone.name=small", "cam.batch=4", "irn.batch=4", "deeplabv2.batch=4"
    settings = [word for text in plain for word in ("--set", text)]
    code, shown, errors = command("launch", "--method", "cam+irn", "--images", spec, *settings, "--plan")
    assert code == 0 and "cam on" not in errors and "11 images" in shown, errors
    code, _, errors = command("images", "check", f"folder:{root}")
    assert code == 2 and f"did you mean folder-per-class:{root}?" in errors


def test_images_can_be_left_out(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("cat-both\n")
    images = opened(root).without(tmp_path / "bad.txt")
    assert "cat-both" not in images.ids("train + val") and len(images.ids("train + val")) == 13
    (tmp_path / "bad.txt").write_text("dog-1\n")
    with pytest.raises(WrongInput, match="1 of 1 ids"):
        opened(root).without(tmp_path / "bad.txt")


def test_coco_s_annotations_in_a_plain_folder_are_told_of(tmp_path: Path, command: Command) -> None:
    (tmp_path / "set/annotations").mkdir(parents=True)
    (tmp_path / "set/annotations/instances_train.json").write_text("{}")
    code, _, errors = command("images", "check", f"folder:{tmp_path / 'set'}")
    assert code == 2 and f"did you mean coco:{tmp_path / 'set'}?" in errors
