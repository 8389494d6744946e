"""Some images of a run with the results of each scored stage, as pictures inside the page."""

import base64
import io
from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesets.item import VOID, Item
from imagesets.item_list import ItemList
from imagesets.palette import PALETTE
from orchestrator.engine.context import stored
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.storage.shards import StoredRecords
from orchestrator.storage.store import digest
from refiners.threshold import label_map

SIDE = 240  # pixels of a picture's long side, at most
REGION, REGION_SIDE = 0.35, 72  # a region's share of the shorter side of its image, and its side in pixels


@dataclass(frozen=True)
class Sample:
    """One image: its id, the names of its image-level labels, and titled pictures as data URIs."""

    id: str
    labels: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Layer:
    """A scored result with its title: the records in a stage's `folder`, label maps or maps with their `threshold`.

    `read` is the reader of maps.
    """

    title: str
    folder: Path
    threshold: float | None
    read: str = ""

    def label_map(self, image: str) -> np.ndarray:
        """The label map of one image, uint8 [H,W]."""
        if not self.read:
            return self._records[image]["label"]
        maps = self._records[image]
        own = maps.background(full=True)
        background = self.threshold if own is None else own
        assert background is not None  # maps without their own background are scored at a threshold
        return label_map(maps.full(), maps.keys, background)

    @cached_property
    def _records(self) -> Any:
        return stored(self.folder, self.read)


def samples(
    items: ItemList, layers: Sequence[Layer], classes: Sequence[str], count: int
) -> tuple[list[Sample], list[tuple[str, str]]]:
    """Samples of up to `count` of the `items`, each with its mask (if any) and the label maps of `layers`; and the legend.

    The legend holds the name and CSS colour of every visible label.
    """
    seen: set[int] = set()
    shown = []
    for item in spread(items, count):
        truth = {"truth": item.truth()} if item.mask else {}
        maps = truth | {layer.title: layer.label_map(item.id) for layer in layers}
        seen.update(int(value) for label in maps.values() for value in np.unique(label))
        pictures = (("image", _photograph(item.rgb())), *((title, _palette_picture(label)) for title, label in maps.items()))
        shown.append(Sample(item.id, tuple(classes[index] for index in item.labels), pictures))
    return shown, [(_name(value, classes), f"rgb({','.join(map(str, PALETTE[value]))})") for value in sorted(seen)]


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
    return _data_uri(picture.resize((REGION_SIDE, REGION_SIDE)), "webp", quality=75)


def spread(items: ItemList, count: int) -> list[Item]:
    """Up to `count` items that show the classes as evenly as possible; the order of `items` does not matter."""
    first: dict[tuple[int, ...], list[tuple[str, int]]] = {}  # of each set of labels; more than `count` are never needed
    for place, (id, labels) in enumerate(items.labelled()):
        alike = first.setdefault(labels, [])
        insort(alike, (digest(id.encode()), place))  # neighbours in a list are often near copies
        del alike[count:]
    left = sorted((*mark, labels) for labels, alike in first.items() for mark in alike)
    shown: Counter[int] = Counter()
    chosen: list[Item] = []
    while left and len(chosen) < count:
        mark = min(left, key=lambda mark: min((shown[index] for index in mark[2]), default=len(items)))
        left.remove(mark)
        shown.update(mark[2])
        chosen.append(items[mark[1]])
    return chosen


def _photograph(rgb: np.ndarray) -> str:
    picture = Image.fromarray(rgb)
    picture.thumbnail((SIDE, SIDE))
    return _data_uri(picture, "webp", quality=80)


def _palette_picture(label: np.ndarray) -> str:
    picture = Image.fromarray(label)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
    picture.putpalette(PALETTE.tobytes())
    return _data_uri(picture, "png", optimize=True)


def _data_uri(picture: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _name(value: int, classes: Sequence[str]) -> str:
    return "background" if value == 0 else "void" if value == VOID else classes[value - 1]
