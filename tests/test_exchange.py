"""Label maps for other tools: COCO's run lengths, its results, and VOC's archive."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO

from imagesets.coco_categories import IDS, NAMES, category_ids
from imagesets.exchange import coco_image_ids, coco_regions, write_coco_results, write_folder, write_server_archive
from imagesets.lists import read_list
from imagesets.palette import PALETTE


def test_an_image_gives_one_region_per_class_but_none_for_background_and_void() -> None:
    label = np.array([[0, 3, 3], [255, 1, 0]], np.uint8)
    regions = coco_regions(label)
    assert [value for value, _ in regions] == [1, 3]
    for value, segmentation in regions:
        assert segmentation["size"] == [2, 3] and isinstance(segmentation["counts"], str)  # JSON has no bytes
        assert np.array_equal(mask.decode(segmentation), label == value)


def test_a_folder_s_list_names_its_files(tmp_path: Path) -> None:
    write_folder(tmp_path, "val", ((id, np.zeros((2, 3), np.uint8)) for id in ("a", "cat.jpg")))
    assert read_list(tmp_path / "val.txt") == ("a", "cat.jpg") and (tmp_path / "cat.jpg.png").is_file()


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["COCO_val2014_000000000042", "000000581929"], [42, 581929]),
        (["2007_000033", "000000581929"], []),
        (["COCO_val2014_000000000042", "COCO_train2014_000000000042"], []),
        (["42"], []),
    ],
)
def test_image_numbers_are_coco_s_where_all_files_are_named_as_coco_s(ids: list[str], expected: list[int]) -> None:
    assert coco_image_ids(ids) == expected


def test_the_categories_are_coco_s() -> None:
    golden = json.loads((Path(__file__).parent / "golden" / "coco_categories.json").read_text())
    assert list(NAMES) == golden["class_names"][1:]
    assert {str(id): place for place, id in enumerate(IDS, 1)} == golden["json_id_to_contiguous"]


def test_classes_are_known_by_coco_s_names_or_by_their_place_among_all_of_them() -> None:
    assert category_ids(["dog", "cat", "toothbrush"]) == (18, 17, 90)
    assert category_ids(["motorbike" if name == "motorcycle" else name for name in NAMES]) == IDS
    assert category_ids(["cat", "ear"]) == (1, 2)


def written(folder: Path, ids: list[str], classes: list[str]) -> tuple[list[dict], dict]:
    """The results and the dataset of label maps that show the last class in the upper row and the first below."""
    label = np.array([[len(classes)] * 3, [1] * 3], np.uint8)
    write_coco_results(folder, [(id, label) for id in ids], classes)
    return json.loads((folder / "results.json").read_text()), json.loads((folder / "dataset.json").read_text())


def test_results_on_coco_have_coco_s_numbers_throughout(tmp_path: Path) -> None:
    results, dataset = written(tmp_path, ["COCO_val2014_000000000042"], ["cat", "dog"])
    assert [(result["image_id"], result["category_id"], result["score"]) for result in results] == [(42, 17, 1.0), (42, 18, 1.0)]
    assert dataset["images"] == [{"id": 42, "file_name": "COCO_val2014_000000000042", "height": 2, "width": 3}]
    assert dataset["categories"] == [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]


def test_results_on_other_images_are_numbered_and_the_dataset_names_them(tmp_path: Path) -> None:
    results, dataset = written(tmp_path, ["a", "b"], ["cat", "dog"])
    assert [(result["image_id"], result["category_id"]) for result in results] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [(image["id"], image["file_name"]) for image in dataset["images"]] == [(1, "a"), (2, "b")]


def test_pycocotools_takes_the_results(tmp_path: Path) -> None:
    written(tmp_path, ["a", "b"], ["cat", "dog"])
    loaded = COCO(str(tmp_path / "dataset.json")).loadRes(str(tmp_path / "results.json"))
    assert [loaded.annToMask(each).tolist() for each in loaded.loadAnns(loaded.getAnnIds(imgIds=2, catIds=2))] == [
        [[1, 1, 1], [0, 0, 0]]
    ]


def test_the_archive_holds_palette_pngs_where_the_server_looks_and_is_the_same_each_time(tmp_path: Path) -> None:
    label = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for name in ("one.tgz", "two.tgz"):
        write_server_archive(tmp_path / name, [("2008_000006", label), ("2008_000011", label.T)], "comp5")
    assert (tmp_path / "one.tgz").read_bytes() == (tmp_path / "two.tgz").read_bytes()
    with tarfile.open(tmp_path / "one.tgz", "r:gz") as archive:
        inside = "results/VOC2012/Segmentation/comp5_test_cls"
        assert archive.getnames() == [f"{inside}/2008_000006.png", f"{inside}/2008_000011.png"]
        file = archive.extractfile(f"{inside}/2008_000011.png")
        assert file is not None
        with Image.open(io.BytesIO(file.read())) as picture:
            assert picture.mode == "P" and np.array_equal(np.asarray(picture), label.T)
            assert picture.getpalette()[:18] == PALETTE[:6].ravel().tolist()  # type: ignore[index]
