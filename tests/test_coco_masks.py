"""Masks and labels of COCO's instances by published rules, and the segmentations that are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from imagesets.coco_annotations import read_annotations
from imagesets.coco_masks import RULES, Instance, decompressed, label_map
from imagesets.errors import WrongInput
from tests.coco_images import DOG, GOLDEN, PERSON, SQUARE, annotation, opened

ARRAYS = np.load(GOLDEN / "coco_masks.npz")
PUBLIC = read_annotations(GOLDEN / "coco_instances.json")


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """The folder of the public code's golden images."""
    for folder in ("annotations", "train2014"):
        (tmp_path / "coco" / folder).mkdir(parents=True)
    shutil.copy(GOLDEN / "coco_instances.json", tmp_path / "coco/annotations/instances_train2014.json")
    for picture in PUBLIC.images:
        Image.new("L", (picture.width, picture.height)).save(tmp_path / "coco/train2014" / picture.file_name)
    return tmp_path / "coco"


@pytest.mark.parametrize("rule", RULES)
def test_masks_are_those_of_the_public_code(golden: Path, rule: str) -> None:
    found = {item.id: item for item in opened(golden, rule).items("train", with_masks=True)}
    assert len(found) == 4
    for picture in PUBLIC.images:
        np.testing.assert_array_equal(found[picture.stem].truth(), ARRAYS[f"{rule}|{picture.id}"])


def test_labels_count_crowds_with_recam_and_are_what_the_mask_shows_with_hfpl(golden: Path) -> None:
    recam, hfpl = (opened(golden, rule).items("train", with_masks=True) for rule in ("recam", "hfpl"))
    for picture, one, other in zip(PUBLIC.images, recam, hfpl, strict=True):
        assert one.id == other.id == picture.stem
        np.testing.assert_array_equal(one.multi_hot(80), ARRAYS[f"label_recam|{picture.id}"])
        assert set(other.labels) == {int(value) - 1 for value in np.unique(other.truth()) if value}
    assert recam[3].labels == () and recam[1].labels == (0, 39, 56) and 57 not in recam[1].truth()


def test_a_class_that_others_cover_is_a_label_with_recam_alone(golden: Path) -> None:
    path = golden / "annotations/instances_train2014.json"
    found = json.loads(path.read_text())
    found["annotations"] += [annotation(581929, DOG, SQUARE), annotation(581929, PERSON, SQUARE)]
    path.write_text(json.dumps(found))
    assert opened(golden).items("train")[3].labels == (0, 16)
    assert opened(golden, "hfpl").items("train")[3].labels == (0,)


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=30))
def test_compressed_run_lengths_are_those_of_pycocotools(rows: list[list[bool]]) -> None:
    region = np.array(rows)
    lengths = decompressed(coco.encode(np.asfortranarray(region, np.uint8))["counts"].decode())
    assert np.array_equal(np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(region.shape, order="F"), region)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        (None, "it is empty"),
        ([], "it is empty"),
        ([[1, 2, 3, 4]], "a polygon has 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon has 7 numbers"),
        ([[1, 2, 3, 4, 5, 1e9]], "more than 100000 pixels away"),
        ([["a", 2, 3, 4, 5, 6]], "Expected `float`, got `str`"),
        ({"size": [5, 6], "counts": [10, 10, 10]}, "its runs cover 30 pixels of 6x5; the image is 5x5"),
        ({"size": [5, 5], "counts": [10, 10]}, "its runs cover 20 pixels"),
        ({"size": [5, 5], "counts": [-5, 30]}, "-5 out of bounds"),
        ({"size": [5, 5], "counts": "04"}, "its runs cover 4 pixels"),
        ({"size": [5, 5], "counts": "zzzz"}, "its runs cover"),
        ({"size": [5, 5]}, "missing required field `counts`"),
        ("mask.png", "Expected"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_a_segmentation_that_is_no_region_of_the_image_is_refused(rule: str, segmentation: Any, said: str) -> None:
    instance = Instance(1, False, json.dumps(segmentation).encode(), 7)
    with pytest.raises(WrongInput, match=f"the annotation 7 has no sound segmentation: .*{said}"):
        label_map(rule, 5, 5, [instance])
