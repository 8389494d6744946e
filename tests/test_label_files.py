"""Image-level labels from CSV tables and from the exports of Label Studio and CVAT."""

import json
from pathlib import Path

import pytest

from imagesets.errors import WrongInput
from imagesets.folder import open_folder
from imagesets.labels import list_of, read_label_list
from tests.conftest import Command

SETTINGS = {"labels": "auto", "masks": ["SegmentationClass"]}
CLASSES = ("cat", "sea lion")
EXPECTED = {"a": ("cat",), "b": ("cat", "sea lion"), "c": ()}
TABLES = {
    "names": 'image,labels\na.jpg,cat\nb,"cat, sea lion"\nc.png,\n',
    "semicolons": "filename;class\nphotographs/a.jpg;cat\nphotographs/b.jpg;cat|sea lion\nphotographs/c.jpg;\n",
    "a line each": "id,label\na,cat\nb,cat\nb,sea lion\nc,\n",
    "tabs": "image\tlabel\na\tcat\nb\tcat;sea lion\nc\t\n",
    "ticks": "image,sea lion,cat\na,0,1\nb,1,1.0\nc,,0\n",
    "ticks and other words": "image,sea lion,cat,tags\na,0,1,outdoor\nb,1,1,\nc,0,0,indoor\n",
    "a mark and Windows ends": "\ufeffImage,cat,sea lion\r\na,True,false\r\nb,yes,x\r\nc,no,0\r\n\r\n",
}


def choices(*names: str) -> dict:
    return {"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": list(names)}}


TASKS = [
    {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [choices("cat")]}]},
    {
        "id": 2,
        "data": {"image": "/data/local-files/?d=photographs/b.jpg", "note": "two of them"},
        "annotations": [
            {"result": [{"type": "polygonlabels", "value": {"points": [[1, 2]], "polygonlabels": ["cat"]}}]},
            {"result": [choices("sea lion")]},
            {"was_cancelled": True, "result": [choices("dog")]},
        ],
    },
    {"id": 3, "data": {"image": "s3://bucket/c.png"}, "annotations": [{"result": []}]},
    {"id": 4, "data": {"image": "d.png"}, "annotations": []},
]
SMALL_TASKS = [
    {"image": "/data/upload/1/0a1b2c3d-a.jpg", "id": 1, "choice": "cat", "annotator": 1, "lead_time": 3.5},
    {"image": "b.jpg", "id": 2, "animal": "cat", "others": {"choices": ["sea lion"]}, "note": "blurred"},
    {"image": "c.jpg", "id": 3, "box": [{"rectanglelabels": None}], "meta": {"labels": "none"}},
]
IMAGE = {"data": {"image": "a.jpg"}}
ODD_TASKS: list[dict] = [
    {"data": None},
    IMAGE | {"annotations": None},
    IMAGE | {"annotations": [12]},
    *(IMAGE | {"annotations": [{"result": result}]} for result in (None, ["x"], [{"value": None}, "x"])),
    *(IMAGE | {"annotations": [{"result": [{"value": {"choices": names}}]}]} for names in ("cat", [["cat"]], [1], None)),
]
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label></labels></task></meta>
  <image id="0" name="photographs/a.jpg" width="64" height="48"><tag label="cat" source="manual"></tag></image>
  <image id="1" name="b.jpg" width="64" height="48"><polygon label="cat" points="1,2;3,4;5,6"></polygon>
    <box label="sea lion" xtl="1" ytl="1" xbr="2" ybr="2"></box></image>
  <image id="2" name="c.jpg" width="64" height="48"></image>
</annotations>"""


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_every_form_are_read(tmp_path: Path, table: str) -> None:
    (tmp_path / "image_labels.csv").write_bytes(TABLES[table].encode())
    found = read_label_list(list_of(tmp_path), CLASSES)
    assert {id: tuple(sorted(names)) for id, names in found.items()} == EXPECTED


def test_classes_may_be_called_as_their_columns_are_ticked(tmp_path: Path) -> None:
    (tmp_path / "image_labels.csv").write_text("image,0,1\na,1,0\nb,0,1\n")
    assert read_label_list(list_of(tmp_path), ("0", "1")) == {"a": ("0",), "b": ("1",)}


@pytest.mark.parametrize(
    ("name", "text"),
    [("json", json.dumps(TASKS)), ("json", json.dumps(SMALL_TASKS)), ("xml", CVAT)],
    ids=["Label Studio", "Label Studio, JSON-MIN", "CVAT"],
)
def test_exports_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / f"image_labels.{name}").write_text(text)
    assert read_label_list(list_of(tmp_path), CLASSES) == EXPECTED  # the task without an annotation has no labels


@pytest.mark.parametrize(
    "row",
    ['a,"cat" ,', '"a" ,cat,', 'a,cat,a 5" disk', 'a,cat,"two\nlines"', 'a,cat,"a 5" disk"'],
    ids=["label", "image", "inch", "lines", "quoted"],
)
def test_quotation_marks_in_other_places_are_read_as_spreadsheets_do(tmp_path: Path, row: str) -> None:
    (tmp_path / "image_labels.csv").write_text(f"image,label,note\n{row}\nb,sea lion,\n")
    assert read_label_list(list_of(tmp_path), CLASSES) == {"a": ("cat",), "b": ("sea lion",)}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("csv", "a,cat\nb,cat\n", "begins with 'a,cat'; its first line must name the column of the image"),
        ("csv", "image,owner\na,me\n", "either a column label or a column for each class"),
        ("csv", "", "begins with ''"),
        ("csv", "image,cat,sea lino\na,1,0\n", "no column for the class 'sea lion'; its columns are image, cat, sea lino"),
        ("csv", "image,cat,sea lion\na,1,2\n", "column sea lion, .* has '2'; it must be 1"),
        ("csv", 'image,label\na,cat\nb,"cat\nc,cat\n', "image_labels.csv, line 3: a quotation mark is not closed"),
        ("csv", 'image,label\na,"cat\nb,"cat, sea lion"\n', "line 2: a quotation mark is not closed"),
        (
            "csv",
            'image,label\na,"cat\n' + 40_000 * "b,cat\n",
            "line 2: field larger than field limit .*; is a quotation mark not closed",
        ),
        ("csv", "image,label\na,cat,dog\n", "3 cells; its first line names 2 columns"),
        ("json", "{", "is no JSON file"),
        ("json", '{"images": []}', "no export of Label Studio"),
        (
            "json",
            '[{"id": 7, "image": "a.jpg", "animal": "wolf"}]',
            "names no class of any image; its tasks have id, image, animal",
        ),
        ("json", '[{"id": 7, "data": {"text": "hello"}}]', "task 7: its data have 0 images"),
        ("csv", "image,cat,cat,sea lion\na,0,1,0\n", "has 2 columns for the class 'cat'"),
        ("csv", "image,label,cat,sea lion\na,cat,0,0\n", "has the column 'label' of class names and columns of classes"),
        ("json", "[" * 100_000, "is no JSON file"),
        *(("json", json.dumps([{"id": 7, **task}]), "task 7: not in the form of Label Studio") for task in ODD_TASKS),
        ("xml", "<annotations><image/></annotations>", "1 <image>s without a name"),
        ("xml", "<annotations>", "is no XML file"),
        ("xml", "<annotation><object/></annotation>", "no export of CVAT"),
    ],
)
def test_other_files_are_refused_with_what_would_be_right(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / f"image_labels.{name}").write_text(text)
    with pytest.raises(WrongInput, match=said):
        read_label_list(list_of(tmp_path), CLASSES)


def test_an_image_set_takes_its_labels_from_a_table(command: Command, image_set: Path) -> None:
    plain = open_folder(image_set, SETTINGS).items("train")
    lines = (image_set / "image_labels.txt").read_text().split("\n")
    rows = [f'{id}.png,"{",".join(names)}"' for id, *names in (line.split() for line in lines if line)]
    (image_set / "image_labels.csv").write_text("\n".join(["filename,labels", *rows]))
    code, _, errors = command("images", "check", f"folder:{image_set}")
    assert code == 2 and "both hold image-level labels; keep one of them" in errors
    (image_set / "image_labels.txt").unlink()
    code, shown, _ = command("images", "check", f"folder:{image_set}")
    assert code == 0 and "its image-level labels come from image_labels.csv" in shown
    assert [item.labels for item in open_folder(image_set, SETTINGS).items("train")] == [item.labels for item in plain]
    (image_set / "image_labels.csv").write_text("\n".join(["filename,labels", *rows[1:]]))
    code, _, errors = command("images", "check", f"folder:{image_set}")
    assert code == 2 and "image_labels.csv names no image train_0; it names 8 images, such as train_1" in errors
    (image_set / "image_labels.csv").write_text("\n".join(["filename,labels", *rows]).replace("bar", "barr"))
    assert "names the class 'barr'; the classes are disc, bar" in command("images", "check", f"folder:{image_set}")[2]
