"""COCO 2014 and other images with COCO's annotations: preparing them, opening them, what is refused."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesets.check import check
from imagesets.coco import open_coco, open_coco14
from imagesets.coco_note import Note, read_note, write_note
from imagesets.coco_preparation import Labels, prepare_coco, prepare_coco14
from imagesets.errors import WrongInput
from imagesets.item import read_label_map
from tests.coco_images import DOG, PERSON, SQUARE, annotation, opened, settings, write_coco
from tests.conftest import Command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


def change(root: Path, **changed: Any) -> Path:
    """Change entries of the annotations of train."""
    path = root / "annotations/instances_train2014.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return path


def test_lists_are_those_of_the_files_and_images_without_annotations_stay(root: Path) -> None:
    images = opened(root)
    assert images.classes[:2] == ("person", "bicycle") and len(images.classes) == 80
    train = images.items("train", with_masks=True)
    assert [item.labels for item in train] == [(0,), (), (0, 16), (16,), (0,), (0,), (0, 16), (16,)]
    assert train[1].truth().shape == (48, 56) and not train[1].truth().any() and not train[5].truth().any()
    assert train[3].rgb().shape == (48, 56, 3)  # it is grey
    assert [item.id for item in images.items("val")] == [f"COCO_val2014_{1000 + place:012d}" for place in range(4)]
    assert check(images, ["train", "val"], ["train", "val"]).problems == []


def test_classes_are_known_by_their_ids_whatever_the_file_calls_them(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco", categories=[{"id": PERSON, "name": "Mensch"}, {"id": DOG, "name": "person"}])
    assert [item.labels for item in opened(root).items("train")][2:4] == [(0, 16), (16,)]


def test_all_images_may_be_in_one_folder_under_the_names_of_2017(root: Path) -> None:
    before = [item.labels for item in opened(root).items("train")]
    (root / "Images").mkdir()
    for path in (*root.glob("train2014/*"), *root.glob("val2014/*")):
        path.rename(root / "Images" / path.name[-16:])
    images = opened(root)
    assert images.ids("train")[0] == "000000000000" and [item.labels for item in images.items("train")] == before
    assert images.items("val", with_masks=True)[0].image == root / "Images/000000001000.jpg"


def test_a_copy_of_the_images_in_another_folder_does_not_count(root: Path) -> None:
    (root / "chosen").mkdir()
    shutil.copy(root / "train2014/COCO_train2014_000000000003.jpg", root / "chosen")
    assert opened(root).items("train")[3].image.parent == root / "train2014"


def test_a_stopped_preparation_goes_on_and_cannot_be_opened_before(root: Path) -> None:
    def stopping(work: Any, parts: Iterable[Any]) -> Iterable[Labels]:
        yield work(next(iter(parts))[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_coco14(str(root), settings("recam"), stopping)
    (half := root / "prepared-coco14-recam/SegmentationClass/.COCO_train2014_000000000003.png.77").touch()  # being written
    with pytest.raises(WrongInput, match=r"this makes them: wsss-orch images prepare coco14:.*coco --set images.rule=recam"):
        open_coco14(root, settings("recam"))
    told = prepare_coco14(str(root), settings("recam"))
    assert told[0].startswith("train: 8 images; 5 masks written") and told[1].startswith("val: 4 images; 4 masks written")
    assert {path for path in half.parent.iterdir() if path.suffix != ".png"} == {half} and len(list(half.parent.iterdir())) == 13
    assert len(opened(root).items("train", with_masks=True)) == 8
    assert opened(root, "hfpl").items("train")[0].labels == (0,)
    told = prepare_coco14(str(root), settings("hfpl"))
    assert "; 0 masks written" in told[0] and open_coco14(root, settings("hfpl")).items("train")[0].labels == (0,)


def test_a_full_disk_leaves_the_note_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_a_file(path: Path, text: str, **_: object) -> None:
        path.write_bytes(b"{")
        raise OSError("no space left")

    write_note(tmp_path, Note("recam", {}, {}))
    monkeypatch.setattr(Path, "write_text", half_a_file)
    with pytest.raises(OSError, match="no space"):
        write_note(tmp_path, Note("recam", {}, {}, whole=True))
    assert len(list(tmp_path.iterdir())) == 1 and (note := read_note(tmp_path)) and not note.whole


def test_changed_annotations_are_noticed_and_masks_are_drawn_anew(root: Path) -> None:
    first = opened(root)
    path = change(root, annotations=[annotation(1, DOG, [[0, 0, 5, 0, 5, 5, 0, 5]])])
    with pytest.raises(WrongInput, match=r"instances_train2014.json has changed since prepared-coco14-recam was made of it"):
        open_coco14(root, settings("recam"))
    second = opened(root)
    assert second.items("train", with_masks=True)[1].truth()[2, 2] == 17 and second.items("train")[0].labels == ()
    assert first.origin != second.origin and second.origin.startswith("recam, annotations ")
    path.touch()  # another time, but the same content
    assert open_coco14(root, settings("recam")).origin == second.origin
    path.unlink()
    assert open_coco14(root, settings("recam")).origin == second.origin


def test_a_preparation_that_was_killed_after_it_removed_old_masks_goes_on(root: Path) -> None:
    opened(root)
    change(root, annotations=[annotation(1, DOG, [[0, 0, 5, 0, 5, 5, 0, 5]])])
    shutil.rmtree(root / "prepared-coco14-recam/SegmentationClass")
    assert opened(root).items("train", with_masks=True)[1].truth()[2, 2] == 17


def test_a_list_that_comes_in_leaves_the_masks_of_the_others(root: Path) -> None:
    val = root / "annotations/instances_val2014.json"
    val.rename(root / "later.json")
    assert "8 masks written" in prepare_coco14(str(root), settings("recam"))[0]
    (root / "later.json").rename(val)
    assert [told.split("; ")[1][:1] for told in prepare_coco14(str(root), settings("recam"))] == ["0", "4"]
    val.unlink()  # one that goes takes its masks along, and with them all others
    assert "8 masks written" in prepare_coco14(str(root), settings("recam"))[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": []}, "describes no image"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": 5}]}, r"missing required field `width` - at `\$.images\[0\]`"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": 5, "width": 0}]}, "says that a.jpg is 0x5 pixels"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": 10**9, "width": 10}]}, "says that a.jpg is 10x1000000000 pixels"),
        ({"images": 2 * [{"id": 1, "file_name": "a.jpg", "height": 5, "width": 5}]}, "2 images with 1 different ids"),
        ({"annotations": {}}, "Expected `array`, got `object`"),
        ({"annotations": [annotation(99, PERSON, [], id=4)]}, "annotation 4 of the image 99, which it does not describe"),
        ({"annotations": [annotation(1, 2, [], id=4)]}, "annotation 4 of the category 2, which it does not name"),
        (
            {"annotations": [annotation(2, PERSON, SQUARE), annotation(1, PERSON, [], id=4)]},
            "image COCO_train2014_000000000001: the annotation 4 has no sound segmentation: it is empty",
        ),
        ({"categories": 2 * [{"id": PERSON, "name": "person"}], "annotations": []}, "two categories with one id"),
        ({"categories": [{"id": 12, "name": "street sign"}], "annotations": []}, "the category 12, which is none of COCO's 80"),
    ],
)
def test_annotations_that_are_wrong_are_one_sentence(root: Path, changed: dict[str, Any], said: str) -> None:
    change(root, **changed)
    with pytest.raises(WrongInput, match=said) as told:
        prepare_coco14(str(root), settings("recam"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["", "{", '{"images": []}', "[]", '{"images": NaN}', "\x00", '{"images": [{"id": 1, "file_na'])
def test_a_damaged_file_is_one_sentence(root: Path, text: str) -> None:
    path = root / "annotations/instances_val2014.json"
    path.write_text(text)
    with pytest.raises(WrongInput, match=f"{path} cannot be read as COCO's instance annotations: ") as told:
        prepare_coco14(str(root), settings("recam"))
    assert "\n" not in str(told.value)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff\xfe")
    with pytest.raises(WrongInput, match="cannot be read as COCO"):
        prepare_coco14(str(root), settings("recam"))


def test_what_is_not_there_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="is no folder"):
        prepare_coco14(str(tmp_path / "nowhere"), settings("recam"))
    shutil.rmtree(root / "val2014")
    with pytest.raises(WrongInput, match=r"none of its 4 annotated images, such as COCO_val2014_000000001000.jpg"):
        prepare_coco14(str(root), settings("recam"))
    shutil.rmtree(root / "annotations")
    with pytest.raises(WrongInput, match=r"it needs annotations/instances_train2014.json or instances_val2014.json"):
        prepare_coco14(str(root), settings("recam"))


def test_a_missing_image_is_a_problem_of_the_check(root: Path) -> None:
    (root / "train2014/COCO_train2014_000000000003.jpg").unlink()
    problems = check(opened(root), ["train", "val"], ["train", "val"]).problems
    assert len(problems) == 1 and "1 of 8 images of list train have no file in" in problems[0]


OWN = [{"id": 7, "name": "sea lion"}, {"id": 0, "name": "cat"}]


def own_images(root: Path, train: str, val: str) -> Path:
    """Two lists of two images each, in folders of the same names; `train` and `val` are the annotation files."""
    for place, (name, file) in enumerate((("train", train), ("val", val))):
        (root / name).mkdir(parents=True)
        pictures = [{"id": f"{name}{number}", "file_name": f"{name} {number}.png".replace(" ", "_")} for number in (1, 2)]
        for picture in pictures:
            Image.new("RGB", (9, 8), (40 * place, 9, 9)).save(root / name / picture["file_name"])
        found = {
            "images": [picture | {"height": 8, "width": 9} for picture in pictures],
            "annotations": [annotation(f"{name}2", 7, SQUARE), annotation(f"{name}2", 0, [[2, 2, 5, 2, 5, 5]])],  # type: ignore[arg-type]
            "categories": OWN,
        }
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_text(json.dumps(found))
    return root


@pytest.mark.parametrize(
    "files",
    [
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
        ("annotations/train.json", "annotations/val.json"),
        ("train/_annotations.coco.json", "val/_annotations.coco.json"),
    ],
)
def test_other_images_have_any_categories_and_lists(tmp_path: Path, files: tuple[str, str]) -> None:
    root = own_images(tmp_path / "own", *files)
    prepare_coco(str(root), settings("recam"))
    images = open_coco(root, settings("recam"))
    assert images.name == "own" and images.classes == ("cat", "sea lion")
    assert [item.labels for item in images.items("train")] == [(), (0, 1)]
    assert [item.id for item in images.items("val")] == ["val_1", "val_2"]
    assert set(np.unique(images.items("val", with_masks=True)[1].truth())) == {0, 1, 2}


def test_a_file_may_begin_with_the_mark_of_windows_editors(tmp_path: Path) -> None:
    root = own_images(tmp_path / "own", "annotations/train.json", "annotations/val.json")
    for path in (root / "annotations").iterdir():
        path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert len(prepare_coco(str(root), settings("recam"))) == 2


def test_images_with_boxes_alone_have_labels_and_no_masks(root: Path) -> None:
    found = json.loads((root / "annotations/instances_train2014.json").read_text())["annotations"]
    change(root, annotations=[each | {"segmentation": []} for each in found])
    assert [told.split("; ")[1][:1] for told in prepare_coco14(str(root), settings("recam"))] == ["0", "4"]
    images = open_coco14(root, settings("recam"))
    assert images.items("train")[2].labels == (0, 16) and not images.has_masks("train") and images.has_masks("val")
    with pytest.raises(WrongInput, match="the annotation 0 has no sound segmentation: it is empty"):
        prepare_coco14(str(root), settings("hfpl"))


def test_images_of_one_name_in_two_folders_are_a_problem(tmp_path: Path) -> None:
    root = own_images(tmp_path / "own", "annotations/train.json", "annotations/val.json")
    for path in (root / "annotations/val.json", *(root / "val").iterdir()):
        path.with_name(path.name.replace("val_", "train_")).write_bytes(path.read_bytes().replace(b'"val_', b'"train_'))
    with pytest.raises(WrongInput, match=r"the image train_1 has 2 files, .*train/train_1.png and .*val/train_1.png; each must"):
        prepare_coco(str(root), settings("recam"))
    (root / "val").rename(root / "other")
    (root / "train").rename(root / "another")
    with pytest.raises(WrongInput, match=r"another and .*other both hold images of the list train; move one"):
        prepare_coco(str(root), settings("recam"))


def test_what_does_not_fit_in_other_images_is_told(tmp_path: Path) -> None:
    root = own_images(tmp_path / "own", "annotations/instances_train.json", "annotations/instances_val.json")
    train, val = (root / f"annotations/instances_{name}.json" for name in ("train", "val"))
    text = train.read_text()

    def refused(said: str) -> None:
        with pytest.raises(WrongInput, match=said):
            prepare_coco(str(root), settings("recam"))

    train.write_text(text.replace("sea lion", "background"))
    refused("names 'background', so that all label values after it would be off by one")
    for name in ("", " ", "sea\\nlion"):  # a line of classes.txt that is blank, or two lines
        train.write_text(text.replace("sea lion", name))
        refused("has the name .* which is empty or holds .* a line break")
    train.write_text(text.replace("sea lion", "cat"))
    refused("must hold 1 to 254 different class names; it holds 2, 1 of them different")
    train.write_text(text.replace("sea lion", "seal"))
    refused(f"{val} has other categories than {train}; all lists must have the same")
    train.write_text(text.replace("train_1.png", "train 1.png"))
    refused("the image 'train 1'; a file's name without suffix must hold no blanks")
    train.write_text(text.replace("train_1.png", "train_1.png.png"))
    refused("the image 'train_1.png'; a file's name .* not end in another suffix")
    train.write_text(text.replace("train_1.png", ""))
    refused("the image ''; a file's name .* not be empty")
    train.write_text(text)
    shutil.copy(train, train.with_name("instances_train2017.json"))
    refused(r"instances_train.json and .*instances_train2017.json are both of the list train; move one of them away")


def test_the_commands_prepare_and_check_and_score_with_the_origin_of_the_masks(root: Path, command: Command) -> None:
    code, _, said = command("launch", "--method", "cam", "--images", f"coco14:{root}", "--plan")
    assert code == 2 and f"wsss-orch images prepare coco14:{root} --set images.rule=recam" in said
    code, shown, said = command("images", "prepare", f"coco14:{root}")
    assert code == 0 and "train: 8 images; 8 masks written to prepared-coco14-recam/SegmentationClass" in shown, said
    code, shown, said = command("images", "check", f"coco14:{root}")
    assert code == 0 and "2 of 12 masks show other classes" in said.replace("\n", " ") + shown.replace("\n", " ")
    assert [line.split()[-2:] for line in shown.splitlines() if "without labels" in line] == [["1", "0"]]
    masks = root / "prepared-coco14-recam/SegmentationClass"
    code, shown, said = command("evaluate", "--masks", masks, "--images", f"coco14:{root}", "--list", "val")
    assert code == 0 and "made by rule: recam, annotations" in shown.replace("\n", " "), said
    code, _, said = command("images", "prepare", f"coco14:{root}", "--set", "images.rule=voc")
    assert code == 2 and "images.rule=voc is not one of recam, hfpl" in said
    code, _, said = command("images", "prepare", f"coco14:{root}", "--sbd", root)
    assert code == 2 and "--sbd is read for voc12:PATH alone" in said
    assert read_label_map(masks / "COCO_train2014_000000000000.png").shape == (48, 56)
