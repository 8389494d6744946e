"""Reading image sets: layouts, list formats, image-level labels and masks."""

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesets import labels
from imagesets.coco import open_coco
from imagesets.errors import WrongInput
from imagesets.folder import open_folder, read_classes
from imagesets.folder_per_class import open_folder_per_class
from imagesets.label_files import read_cvat
from imagesets.lists import read_list
from imagesets.palette import save_label_map
from imagesets.voc12 import CLASSES as VOC_CLASSES
from imagesets.voc12 import open_voc12

SETTINGS = {"labels": "auto", "masks": ["SegmentationClass", "SegmentationClassAug"]}
ANNOTATION = "<annotation><object><name>{}</name><part><name>head</name></part></object></annotation>"


def golden_annotations() -> list[dict]:
    return json.loads((Path(__file__).parent / "golden" / "voc_xml_labels.json").read_text())["cases"]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2012 with two annotated images, of which `b` has a mask in SegmentationClassAug alone."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for id, name in (("a", "cat"), ("b", "dog")):
        Image.new("RGB", (6, 4)).save(root / "JPEGImages" / f"{id}.jpg")
        (root / "Annotations" / f"{id}.xml").write_text(ANNOTATION.format(name))
        save_label_map(root / "SegmentationClassAug" / f"{id}.png", np.full((4, 6), 8, np.uint8))
    save_label_map(root / "SegmentationClass" / "a.png", np.zeros((4, 6), np.uint8))
    (root / "ImageSets/Segmentation/train_aug.txt").write_text("a\nb\n")
    return root


def test_annotations_give_the_labels_of_the_public_code(tmp_path):
    path = tmp_path / "case.xml"
    for case in golden_annotations():
        path.write_text(case["xml"])
        found = labels.from_annotation(path, VOC_CLASSES)
        assert found == tuple(np.flatnonzero(case["label"])), case["name"]


@pytest.mark.parametrize(
    "line",
    ["{}", "/JPEGImages/{}.jpg /SegmentationClass/{}.png", "JPEGImages/{}.jpg", "{}.jpg", "  {}  ", "{}\r", "\ufeff{}", "{} -1"],
)
def test_every_list_format_reads_equal(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_bytes("\n".join([line.replace("{}", "2007_000032"), "", "2007_000039.v2", ""]).encode())
    assert read_list(path) == ("2007_000032", "2007_000039.v2")


def test_the_voc_folder_and_its_parent_open_alike(voc):
    sets = [open_voc12(path, SETTINGS) for path in (voc, voc.parent)]
    assert sets[0] == sets[1]
    assert sets[0].label_source == "xml"
    assert [item.labels for item in sets[0].items("train_aug")] == [(7,), (11,)]


def test_a_mask_comes_from_the_first_folder_that_has_it(voc):
    items = open_voc12(voc, SETTINGS).items("train_aug", with_masks=True)
    assert [item.mask.parent.name for item in items if item.mask] == ["SegmentationClass", "SegmentationClassAug"]


def test_masks_reach_nobody_who_does_not_ask(image_set):
    assert all(item.mask is None for item in open_folder(image_set, SETTINGS).items("train"))


def test_the_three_sources_of_labels_agree_where_the_data_do(image_set):
    from_list = open_folder(image_set, SETTINGS)
    (image_set / "Annotations").mkdir()
    for item in from_list.items("train"):
        objects = "".join(f"<object><name>{from_list.classes[label]}</name></object>" for label in item.labels)
        (image_set / "Annotations" / f"{item.id}.xml").write_text(f"<annotation>{objects}</annotation>")
    found = {source: open_folder(image_set, {**SETTINGS, "labels": source}) for source in ("list", "xml", "masks")}
    assert [images.label_source for images in found.values()] == ["list", "xml", "masks"]
    items = [list(images.items("train")) for images in found.values()]
    assert items[0] == items[1] == items[2]


def test_excluded_images_are_in_no_list(image_set):
    images = open_folder(image_set, SETTINGS)
    left = replace(images, excluded=frozenset({"train_1", "val_0"}))
    assert set(images.ids("train")) - set(left.ids("train")) == {"train_1"}
    assert "val_0" not in left.ids("val")


def test_a_missing_image_is_named(image_set):
    (image_set / "JPEGImages/train_3.png").unlink()
    with pytest.raises(WrongInput, match=r"1 of 6 images of list train have no file.*train_3"):
        open_folder(image_set, SETTINGS).items("train")


def test_a_missing_mask_is_named_where_masks_are_wanted(image_set):
    (image_set / "SegmentationClass/val_1.png").unlink()
    images = open_folder(image_set, SETTINGS)
    assert len(images.items("val")) == 3
    with pytest.raises(WrongInput, match=r"1 of 3 images of list val have no mask.*val_1"):
        images.items("val", with_masks=True)


def test_an_unknown_list_names_those_there_are(image_set):
    with pytest.raises(WrongInput, match=r"no list 'trainn'.*it has train, val"):
        open_folder(image_set, SETTINGS).ids("trainn")


ONE_BLANK = ("cat", "sea lion")


@pytest.mark.parametrize(
    ("line", "classes", "names"),
    [
        ("a cat dog", ("cat", "dog"), ["cat", "dog"]),
        ("a", ("cat",), []),
        ("a,", ("cat",), []),
        ("a\tcat dog", ("cat", "dog"), ["cat", "dog"]),
        ("a\tcat\tdog", ("cat", "dog"), ["cat", "dog"]),
        ("a,cat, dog", ("cat", "dog"), ["cat", "dog"]),
        ("a cat, dog", ("cat", "dog"), ["cat", "dog"]),
        ("JPEGImages/a.jpg cat", ("cat",), ["cat"]),
        ("a\tcat\tsea lion", ONE_BLANK, ["cat", "sea lion"]),
        ("a sea lion, cat", ONE_BLANK, ["sea lion", "cat"]),
        ("a,sea lion", ONE_BLANK, ["sea lion"]),
        ("a sea lion", ONE_BLANK, ["sea lion"]),
        ("a cat sea lion", ONE_BLANK, ["cat sea lion"]),
    ],
)
def test_a_line_of_the_label_list_is_an_id_and_names(tmp_path, line, classes, names):
    path = tmp_path / "image_labels.txt"
    path.write_text(f"{line}\nother cat\n")
    assert labels.read_names(path, classes) == {"a": tuple(names), "other": ("cat",)}


def test_labels_are_in_the_order_of_the_classes_whatever_the_order_of_their_names():
    classes = tuple(f"class {number}" for number in range(30))
    assert labels.from_names(reversed(classes), classes, "a line") == tuple(range(30))


def test_an_id_with_a_comma_goes_with_tabs(tmp_path):
    (tmp_path / "labels.txt").write_text("a,b\tcat\n")
    assert labels.read_names(tmp_path / "labels.txt") == {"a,b": ("cat",)}


def test_several_lines_of_one_image_add_up(tmp_path):
    (tmp_path / "labels.txt").write_text("a cat\nb dog\na dog\na cat\n")
    assert labels.read_names(tmp_path / "labels.txt") == {"a": ("cat", "dog"), "b": ("dog",)}


def test_names_without_a_separator_are_refused_where_a_name_has_a_blank(image_set):
    (image_set / "classes.txt").write_text("disc\nlong bar\n")
    (image_set / "image_labels.txt").write_text("train_0 disc long bar\n")
    with pytest.raises(WrongInput, match=r"names the class 'disc long bar'.*'long bar' has a blank, a tab or a comma stands"):
        open_folder(image_set, SETTINGS).label_reader()("train_0")


def test_an_image_may_have_no_labels_whatever_their_source(image_set):
    (image_set / "image_labels.txt").write_text("train_0\n")
    (image_set / "Annotations").mkdir()
    (image_set / "Annotations/train_0.xml").write_text(ANNOTATION.format("zebra"))
    save_label_map(image_set / "SegmentationClass/train_0.png", np.zeros((48, 48), np.uint8))
    (image_set / "ImageSets/Segmentation/train.txt").write_text("train_0\n")
    for source in ("list", "xml", "masks"):
        (item,) = open_folder(image_set, {**SETTINGS, "labels": source}).items("train")
        assert item.labels == ()


@pytest.mark.parametrize("suffix", [".PNG", ".Png"])
def test_masks_are_found_however_their_suffix_is_written(image_set, suffix):
    before = [item.labels for item in open_folder(image_set, {**SETTINGS, "labels": "masks"}).items("train", with_masks=True)]
    for path in (image_set / "SegmentationClass").iterdir():
        path.rename(path.with_suffix(suffix))
    items = open_folder(image_set, {**SETTINGS, "labels": "masks"}).items("train", with_masks=True)
    assert [item.labels for item in items] == before
    assert {item.mask.suffix for item in items if item.mask} == {suffix}


def test_annotations_are_found_however_their_suffix_is_written(voc):
    before = list(open_voc12(voc, SETTINGS).items("train_aug"))
    for path in (voc / "Annotations").iterdir():
        path.rename(path.with_suffix(".XML"))
    assert list(open_voc12(voc, SETTINGS).items("train_aug")) == before


@pytest.mark.parametrize("encoding", ["gbk", "no-such"])
@pytest.mark.parametrize("read", [labels.from_annotation, read_cvat])
def test_an_encoding_of_xml_that_is_not_read_is_told(tmp_path, read, encoding):
    (tmp_path / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>' + ANNOTATION.format("cat"), encoding="utf-8")
    with pytest.raises(WrongInput, match=r"a\.xml is in an encoding that is not read .*; save it as UTF-8"):
        read(tmp_path / "a.xml", ("cat",))


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_id_is_matched_whether_its_accents_are_apart_or_not(image_set, forms):
    of_file, of_list = (unicodedata.normalize(form, "é0") for form in forms)
    for folder in ("JPEGImages", "SegmentationClass"):
        (image_set / folder / "val_0.png").rename(image_set / folder / f"{of_file}.png")
    for name in ("image_labels.txt", "ImageSets/Segmentation/val.txt"):
        (image_set / name).write_text((image_set / name).read_text().replace("val_0", of_list))
    item = open_folder(image_set, SETTINGS).items("val", with_masks=True)[0]
    assert item.id == "\xe90" and item.mask and item.truth().shape == item.rgb().shape[:2] and item.labels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("image_labels.txt", "{id} ä\n"),
        ("image_labels.csv", "image,label\n{id},ä\n"),
        ("image_labels.csv", "image,ä,bar\n{id},1,0\n"),
        ("image_labels.json", '[{{"image": "{id}.png", "shape": "ä"}}]'),
        ("image_labels.xml", '<annotations><image name="{id}.png"><tag label="ä"/></image></annotations>'),
        ("Annotations/{id}.xml", "<annotation><object><name>ä</name></object></annotation>"),
    ],
)
@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_class_is_matched_whether_its_accents_are_apart_or_not(image_set, forms, name, text):
    of_classes, of_labels = (unicodedata.normalize(form, "ä") for form in forms)
    (image_set / "image_labels.txt").unlink()
    (image_set / "Annotations").mkdir()
    (image_set / "classes.txt").write_text(f"{of_classes}\nbar\n", encoding="utf-8")
    (image_set / "ImageSets/Segmentation/train.txt").write_text("train_0\n")
    (image_set / name.format(id="train_0")).write_text(text.format(id="train_0").replace("ä", of_labels), encoding="utf-8")
    if not name.startswith("Annotations"):
        (image_set / "Annotations").rmdir()
    assert open_folder(image_set, SETTINGS).items("train")[0].labels == (0,)


def test_an_id_with_two_files_is_refused_in_the_lists_that_have_it(image_set):
    Image.new("RGB", (48, 48)).save(image_set / "JPEGImages/train_3.jpg")
    images = open_folder(image_set, SETTINGS)
    with pytest.raises(WrongInput, match=r"the image train_3 has 2 files, .*train_3.jpg and .*train_3.png; it must have one"):
        images.items("train")
    assert len(images.items("val")) == 3


@pytest.mark.parametrize("line", ["my cat 1", "my cat 1.png", "JPEGImages/my cat 1.png", "cat 1"])
def test_an_id_with_a_blank_is_refused_and_never_cut_short(image_set, line):
    for id in ("my cat 1", "cat 1", "cat"):
        Image.new("RGB", (48, 48)).save(image_set / f"JPEGImages/{id}.png")
    (image_set / "ImageSets/Segmentation/train.txt").write_text(line + "\n")
    with pytest.raises(WrongInput, match=r"train.txt names the image '(my )?cat 1', but an id must not hold blanks"):
        open_folder(image_set, SETTINGS).ids("train")


@pytest.mark.parametrize("line", ["b cat", "0001 0002", "b 2", "b 0.5"])
def test_a_line_with_further_words_is_refused_where_they_are_no_flags_of_voc_or_paths(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"a -1\na 0\na 1\n{line}\n")
    told = f"has the line '{line}' with the word '{line.split()[1]}'; a line has one id, without blanks"
    with pytest.raises(WrongInput, match=told):
        read_list(tmp_path / "list.txt")


def test_a_flag_of_voc_that_is_an_id_of_the_image_set_is_refused(image_set):
    for id in ("0", "7"):
        Image.new("RGB", (48, 48)).save(image_set / f"JPEGImages/{id}.png")
    images = open_folder(image_set, SETTINGS)
    (image_set / "out.txt").write_text("7 -1\n")
    assert images.without(image_set / "out.txt").excluded == {"7"}
    (image_set / "out.txt").write_text("7 0\n")
    with pytest.raises(WrongInput, match=r"out.txt has 0 after an id, and there is an image 0; a line has one id"):
        images.without(image_set / "out.txt")


@pytest.mark.parametrize("line", ["/JPEGImages/{}.png /SegmentationClass/{}.png", "JPEGImages/{}.png SegmentationClass/{}.png"])
def test_a_list_of_images_and_masks_names_the_images(image_set, line):
    (image_set / "ImageSets/Segmentation/train.txt").write_text(line.replace("{}", "train_1") + "\n")
    images = open_folder(image_set, SETTINGS)
    assert images.ids("train") == ("train_1",)
    assert images.without(image_set / "ImageSets/Segmentation/train.txt").ids("train") == ()


def test_a_named_folder_of_masks_must_be_there(image_set):
    with pytest.raises(WrongInput, match=r"images.masks=Nope: there is no such folder in"):
        open_folder(image_set, SETTINGS | {"masks": ["Nope"]})
    shutil.rmtree(image_set / "SegmentationClass")
    open_folder(image_set, SETTINGS)  # an image set without masks is legal


def test_an_excluded_id_must_be_one_of_the_image_set(image_set):
    (image_set / "JPEGImages/train_2.png").unlink()  # why it may be excluded
    images, out = open_folder(image_set, SETTINGS), image_set / "out.txt"
    out.write_text("train_2\ntrain_1.png\n")
    assert set(images.ids("train")) - set(images.without(out).ids("train")) == {"train_1", "train_2"}
    out.write_text("train_2\ntrain_22\nnosuch\n")
    with pytest.raises(WrongInput, match=r"2 of 3 ids of .*out.txt are in no list .*such as nosuch, train_22;"):
        images.without(out)


def test_an_excluded_id_with_a_blank_is_not_cut_short(image_set):
    Image.new("RGB", (48, 48)).save(image_set / "JPEGImages/train_1 2.png")
    (image_set / "out.txt").write_text("train_1 2\n")
    with pytest.raises(WrongInput, match="names the image 'train_1 2', but an id must not hold blanks"):
        open_folder(image_set, SETTINGS).without(image_set / "out.txt")


def test_how_many_images_of_a_list_have_a_mask_is_known_without_opening_one(image_set, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    (image_set / "SegmentationClass/val_1.png").unlink()
    images = open_folder(image_set, SETTINGS)
    assert [images.with_mask(name) for name in ("train", "val")] == [6, 2]


def test_an_image_set_has_the_name_of_its_folder_unless_it_is_given_another(image_set, monkeypatch):
    assert open_folder(image_set, SETTINGS).name == "images"
    assert open_folder(image_set, {**SETTINGS, "name": ""}).name == "images"
    assert open_folder(image_set, {**SETTINGS, "name": "Pets & co"}).name == "Pets & co"
    monkeypatch.chdir(image_set)
    assert open_folder(".", SETTINGS).name == open_folder("../images/JPEGImages/..", SETTINGS).name == "images"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train_0 disk\n", "names the class 'disk'; the classes are disc, bar"),
        ("", "no line for the image train_0"),
        ("id;class\ntrain_0;disc", "train_0; its first line is 'id;class', and right would be .* the id alone for an image that"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(image_set, line, said):
    (image_set / "image_labels.txt").write_text(line)
    with pytest.raises(WrongInput, match=said):
        open_folder(image_set, SETTINGS).items("train")


@pytest.mark.parametrize(
    ("below", "settings", "said"),
    [
        ("JPEGImages", {}, "not in VOC layout"),
        ("nothing", {}, "nothing is no folder; it must hold JPEGImages and ImageSets/Segmentation"),
        ("classes.txt", {}, "classes.txt is no folder"),
        ("", {"labels": "json"}, "must be auto, list, xml, masks"),
        ("", {"labels": "xml"}, "it needs Annotations"),
        ("", {"masks": []}, "images.masks is empty"),
    ],
)
def test_an_image_set_that_cannot_be_opened_says_why(image_set, below, settings, said):
    with pytest.raises(WrongInput, match=said):
        open_folder(image_set / below, {**SETTINGS, **settings})


@pytest.mark.parametrize("opened", [open_folder, open_voc12, open_coco, open_folder_per_class])
def test_a_home_folder_of_nobody_is_told(opened):
    with pytest.raises(WrongInput, match="~nosuchuser/x: there is no home folder of that name; give the path in full"):
        opened("~nosuchuser/x", SETTINGS | {"rule": "recam"})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\nsea lion\n", ("cat", "sea lion")),
        ("\ufeff cat \r\n\r\ndog\r\n", ("cat", "dog")),
        ("1st place\n2nd place\n", ("1st place", "2nd place")),
        ("background noise\n", ("background noise",)),
    ],
)
def test_a_line_of_the_classes_is_a_name(tmp_path, text, names):
    path = tmp_path / "classes.txt"
    path.write_bytes(text.encode())
    assert read_classes(path) == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("background\ncat\n", "names 'background', so that all label values"),
        ("cat\n_Background_\n", "names '_Background_'"),
        ("__ignore__\ncat\n", "names '__ignore__'"),
        ("0 cat\n1 dog\n", r"numbers its lines \('0 cat'\)"),
        ("1: cat\n2: dog\n3: sea lion\n", r"numbers its lines \('1: cat'\)"),
        ("cat,dog\n", "has the name 'cat,dog'"),
        ("cat\t1\n", "has the name .* a tab"),
        ("cat\x1b[31m\n", r"has the name 'cat\\x1b\[31m', which .* control character"),
        ('"cat"\n', "quotation mark"),
        ("", "it holds 0"),
        ("cat\ncat\n", "1 of them different"),
        (None, "is missing"),
    ],
)
def test_class_names_that_cannot_be_used_are_refused(tmp_path, text, said):
    path = tmp_path / "classes.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(WrongInput, match=said):
        read_classes(path)


def test_opening_an_image_set_imports_no_torch():
    code = "import sys, imagesets.folder, imagesets.voc12, imagesets.shapes; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False).returncode == 0
    )


def test_listing_items_opens_no_image(image_set, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    assert len(open_folder(image_set, SETTINGS).items("val", with_masks=True)) == 3
