"""Reading image sets: layouts, list formats, image-level labels and masks."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesets import labels
from imagesets.errors import WrongInput
from imagesets.layout import VOC_CLASSES, open_image_set, read_classes
from imagesets.lists import read_list
from imagesets.palette import save_label_map

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
    sets = [open_image_set(f"voc12:{path}", SETTINGS) for path in (voc, voc.parent)]
    assert sets[0] == sets[1]
    assert sets[0].label_source == "xml"
    assert [item.labels for item in sets[0].items("train_aug")] == [(7,), (11,)]


def test_a_mask_comes_from_the_first_folder_that_has_it(voc):
    items = open_image_set(f"voc12:{voc}", SETTINGS).items("train_aug", with_masks=True)
    assert [item.mask.parent.name for item in items if item.mask] == ["SegmentationClass", "SegmentationClassAug"]


def test_masks_reach_nobody_who_does_not_ask(image_set):
    assert all(item.mask is None for item in open_image_set(f"folder:{image_set}", SETTINGS).items("train"))


def test_the_three_sources_of_labels_agree_where_the_data_do(image_set):
    from_list = open_image_set(f"folder:{image_set}", SETTINGS)
    (image_set / "Annotations").mkdir()
    for item in from_list.items("train"):
        objects = "".join(f"<object><name>{from_list.classes[label]}</name></object>" for label in item.labels)
        (image_set / "Annotations" / f"{item.id}.xml").write_text(f"<annotation>{objects}</annotation>")
    found = {source: open_image_set(f"folder:{image_set}", {**SETTINGS, "labels": source}) for source in ("list", "xml", "masks")}
    assert [images.label_source for images in found.values()] == ["list", "xml", "masks"]
    items = [list(images.items("train")) for images in found.values()]
    assert items[0] == items[1] == items[2]


def test_excluded_images_are_in_no_list(image_set):
    images = open_image_set(f"folder:{image_set}", SETTINGS)
    left = replace(images, excluded=frozenset({"train_1", "val_0"}))
    assert set(images.ids("train")) - set(left.ids("train")) == {"train_1"}
    assert "val_0" not in left.ids("val")


def test_a_missing_image_is_named(image_set):
    (image_set / "JPEGImages/train_3.png").unlink()
    with pytest.raises(WrongInput, match=r"1 of 6 images of list train have no file.*train_3"):
        open_image_set(f"folder:{image_set}", SETTINGS).items("train")


def test_a_missing_mask_is_named_where_masks_are_wanted(image_set):
    (image_set / "SegmentationClass/val_1.png").unlink()
    images = open_image_set(f"folder:{image_set}", SETTINGS)
    assert len(images.items("val")) == 3
    with pytest.raises(WrongInput, match=r"1 of 3 images of list val have no mask.*val_1"):
        images.items("val", with_masks=True)


def test_an_unknown_list_names_those_there_are(image_set):
    with pytest.raises(WrongInput, match=r"no list 'trainn'.*it has train, val"):
        open_image_set(f"folder:{image_set}", SETTINGS).ids("trainn")


@pytest.mark.parametrize(
    ("line", "said"),
    [("train_0 disk\n", "names the class 'disk'; the classes are disc, bar"), ("", "no line for the image train_0")],
)
def test_labels_that_cannot_be_used_are_refused(image_set, line, said):
    (image_set / "image_labels.txt").write_text(line)
    with pytest.raises(WrongInput, match=said):
        open_image_set(f"folder:{image_set}", SETTINGS).items("train")


@pytest.mark.parametrize(
    ("spec", "settings", "said"),
    [
        ("coco:{}", {}, "there is no image set"),
        ("folder", {}, "there is no image set"),
        ("folder:{}/JPEGImages", {}, "not in VOC layout"),
        ("folder:{}", {"labels": "json"}, "must be auto, list, xml, masks"),
        ("folder:{}", {"labels": "xml"}, "it needs Annotations"),
        ("folder:{}", {"masks": []}, "images.masks is empty"),
    ],
)
def test_an_image_set_that_cannot_be_opened_says_why(image_set, spec, settings, said):
    with pytest.raises(WrongInput, match=said):
        open_image_set(spec.format(image_set), {**SETTINGS, **settings})


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "it holds 0"), ("cat\ncat\n", "1 of them different"), ("sea lion\n", "must be one word"), (None, "is missing")],
)
def test_class_names_that_cannot_be_used_are_refused(tmp_path, text, said):
    path = tmp_path / "classes.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(WrongInput, match=said):
        read_classes(path)


def test_opening_an_image_set_imports_no_torch():
    code = "import sys, imagesets.layout, imagesets.shapes; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False).returncode == 0
    )


def test_listing_items_opens_no_image(image_set, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    assert len(open_image_set(f"folder:{image_set}", SETTINGS).items("val", with_masks=True)) == 3
