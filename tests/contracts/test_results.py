"""Tests for the result of every per-image stage, by the word that it writes: odd sizes, no labels, one class."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from imagesets.item import VOID, Item
from maps.grids import strided
from maps.maps import Maps
from tests.contracts.cases import Case, every
from tests.contracts.images import SIZES
from tests.contracts.laboratory import Laboratory, Made, same

CASES = every("map")
ROUNDING = 2e-3  # what half precision may add to a map's maximum of 1


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def check_maps(found: Maps, item: Item, classes: int) -> None:
    """One map between 0 and 1 for each class that the image shows, on the stride-4 grid and at full size."""
    size = item.rgb().shape[:2]
    assert found.keys.tolist() == list(item.labels) and found.size == size
    for full, planes in ((False, found.strided()), (True, found.full())):
        extent = size if full else strided(size)
        assert planes.shape == (len(item.labels), *extent) and planes.dtype == torch.float32
        assert torch.isfinite(planes).all() and ((planes >= -ROUNDING) & (planes <= 1 + ROUNDING)).all()
        own = found.background(full)
        assert own is None or (own.shape == extent and torch.isfinite(own).all())


def check_weak_labels(found: Mapping[str, np.ndarray], item: Item, classes: int) -> None:
    """A label map that holds background, what the image shows, and void; an image that shows nothing is background all over."""
    label = found["label"]
    assert label.shape == item.rgb().shape[:2] and label.dtype == np.uint8
    assert set(np.unique(label)) <= {0, VOID, *(own + 1 for own in item.labels)}
    assert item.labels or not label.any()


def check_prediction(found: Mapping[str, np.ndarray], item: Item, classes: int) -> None:
    """A label map of any classes without void: a segmenter does not know what an image shows."""
    label = found["label"]
    assert label.shape == item.rgb().shape[:2] and label.dtype == np.uint8 and label.max() <= classes


def check_numbers(found: Any, item: object, classes: int) -> None:
    """Arrays with finite numbers: nothing more is known of a word that only its own method reads."""
    numbers = [array for array in found.values() if np.issubdtype(array.dtype, np.number)]
    assert numbers and all(np.isfinite(array).all() for array in numbers)


CHECKS: dict[str, Callable[[Any, Any, int], None]] = {
    "maps": check_maps,
    "labels": check_weak_labels,
    "masks": check_weak_labels,
    "predictions": check_prediction,
}


def test_every_item_has_a_record_of_the_form_of_its_word(made: Made) -> None:
    job = made.job
    check = CHECKS.get(job.recipe.writes, check_numbers)
    assert list(made.records) == [job.name_of(part) for part in job.parts()]
    for part in job.parts():
        check(made.records[job.name_of(part)], part, len(job.classes))


def test_maps_have_a_background_of_their_own_where_their_recipe_says_so(laboratory: Laboratory, case: Case) -> None:
    made = laboratory.made(case)
    if case.stage.recipe.writes == "maps":
        own = {made.records[item.id].background(full=True) is not None for item in made.job.items if item.labels}
        assert own == {"background" in case.stage.recipe.provides}


def test_the_lists_hold_images_without_labels_and_odd_sizes(laboratory: Laboratory, one_class: Laboratory, case: Case) -> None:
    items = laboratory.made(case).job.items
    assert {item.labels for item in items} == {(0,), (), (0, 1), (1,)} and {item.rgb().shape[:2] for item in items} == {*SIZES}
    assert {item.labels for item in one_class.made(case).job.items} == {(0,), ()}


def test_an_item_s_record_depends_on_nothing_but_the_item(laboratory: Laboratory, case: Case) -> None:
    made = laboratory.made(case)
    torch.manual_seed(99)
    np.random.seed(99)
    one = made.one()
    for part in reversed(made.job.parts()[: len(SIZES)]):  # the others are of the same sizes and labels
        assert same(one(part), made.arrays[made.job.name_of(part)]), part
