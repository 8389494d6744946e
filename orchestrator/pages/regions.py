"""Regions of images that a fitted stage stands for, such as those nearest to a prototype, as pictures inside a page."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from orchestrator.pages.pictures import data_uri
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.storage.shards import StoredRecords

REGION, REGION_SIDE = 0.35, 72  # a region's share of the shorter side of its image, and its side in pixels
Places = Callable[[Mapping[str, np.ndarray]], list[list[tuple[str, np.ndarray]]]]  # see `orchestrator.planning.recipe.Regions`


def regions(step: PlannedStage, places: Places, classes: Sequence[str]) -> dict[str, list[list[str]]]:
    """For each class the rows of image regions that `places` finds in a fitted stage's record, as data URIs."""
    stored = StoredRecords(step.folder)
    rows = {name: places(stored[name]) for name in classes}
    shown = {id for of_class in rows.values() for row in of_class for id, _ in row}
    images = {id: step.items[place] for place, id in enumerate(step.items.names()) if id in shown}
    return {
        name: [[_region(images[id].rgb(), place) for id, place in row] for row in of_class] for name, of_class in rows.items()
    }


def _region(rgb: np.ndarray, place: np.ndarray) -> str:
    """A square around a place (row, column as fractions), a third of the image's shorter side wide, inside the image."""
    size = np.array(rgb.shape[:2])
    side = max(int(size.min() * REGION), 1)
    top, left = np.clip(np.round(place * size - side / 2), 0, size - side).astype(int)
    picture = Image.fromarray(rgb[top : top + side, left : left + side])
    return data_uri(picture.resize((REGION_SIDE, REGION_SIDE)), "webp", quality=75)
