"""Some images of a list with the result of each scored stage, as a page's image browser reads them (see browser.js)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from imagesets.item import VOID, Item
from imagesets.item_list import ItemList
from imagesets.palette import PALETTE
from maps.labelling import label_map
from orchestrator.engine.context import stored
from orchestrator.pages.choice import choose
from orchestrator.pages.pictures import heat_picture, heat_scale, label_picture, photograph
from orchestrator.planning import scores
from orchestrator.reading.numbers import told

TRUTH = "truth"
Heats = dict[int, np.ndarray]  # the map float [H,W] of each class by its 0-based index


@dataclass(frozen=True)
class Layer:
    """A result with its title: the records in a stage's `folder`, label maps or maps with their `threshold`.

    `read` is the reader of maps; `scores` are the main metric of `quantity` for each image, as far as it was scored.
    """

    title: str
    folder: Path
    threshold: float | None
    read: str = ""
    quantity: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    def of(self, image: str) -> tuple[np.ndarray, Heats]:
        """The label map of one image, uint8 [H,W], and the maps that it was made of, if any."""
        record = self._records[image]
        if not self.read:
            return record["label"], {}
        own = record.background(full=True)
        background = self.threshold if own is None else own
        assert background is not None  # maps without their own background are scored at a threshold
        full = record.full()
        return label_map(full, record.keys, background), dict(zip(record.keys.tolist(), full.numpy(), strict=True))

    @cached_property
    def _records(self) -> Any:
        return stored(self.folder, self.read)


def sheet(title: str, items: ItemList, layers: Sequence[Layer], classes: Sequence[str], count: int) -> dict[str, Any]:
    """Up to `count` of the `items` with their masks (if any), the label maps and the heat maps of `layers`, as JSON."""
    samples = [_Sample(item, layers) for item in choose(items, count, _judged(layers))]
    seen = sorted(set().union(*(sample.values for sample in samples)))
    with_truth = any(sample.item.mask for sample in samples)
    columns = [list(sample.columns(with_truth, classes)) for sample in samples]
    return {
        "title": title,
        "legend": [[_name(value, classes), f"rgb({','.join(map(str, PALETTE[value]))})"] for value in seen],
        "heat": heat_scale(),
        "layers": [column.about for column in columns[0]],
        "samples": [sample.as_json(shown, seen, classes) for sample, shown in zip(samples, columns, strict=True)],
    }


@dataclass(frozen=True)
class _Column:
    """What the browser can lay over one image: what it is, its picture or a picture of each class, and its score."""

    about: dict[str, Any]
    picture: str | dict[str, str] | None
    score: list[Any] | None = None


class _Sample:
    """One image with what its layers hold."""

    def __init__(self, item: Item, layers: Sequence[Layer]):
        self.item, self.layers = item, layers
        self.truth = item.truth() if item.mask else None
        self.results = [layer.of(item.id) for layer in layers]

    @property
    def values(self) -> set[int]:
        """All values of its label maps."""
        return {int(value) for label in self._labels() for value in np.unique(label)}

    def columns(self, with_truth: bool, classes: Sequence[str]) -> Iterator[_Column]:
        """The mask if any image of the page has one, the label map of each layer, then the maps of those that have some."""
        if with_truth:
            yield _Column({"title": TRUTH}, None if self.truth is None else label_picture(self.truth))
        for layer, (label, _) in zip(self.layers, self.results, strict=True):
            yield _Column(_about(layer), label_picture(label), self._score(layer))
        for layer, (_, heats) in zip(self.layers, self.results, strict=True):
            if layer.read:
                about = {"title": f"maps of {layer.title}", "heat": True}
                yield _Column(about, {classes[key]: heat_picture(heat) for key, heat in heats.items()})

    def as_json(self, columns: Sequence[_Column], seen: Sequence[int], classes: Sequence[str]) -> dict[str, Any]:
        """What the page has of it; `seen` are the values of the page's legend."""
        rgb = self.item.rgb()
        names = [classes[index] for index in self.item.labels]
        return {
            "id": self.item.id,
            "labels": names,
            "size": [rgb.shape[1], rgb.shape[0]],
            "photograph": photograph(rgb),
            "legend": [seen.index(value) for value in sorted(self.values)],
            "pictures": [column.picture for column in columns],
            "scores": [column.score for column in columns],
        }

    def _labels(self) -> Iterator[np.ndarray]:
        yield from () if self.truth is None else (self.truth,)
        yield from (label for label, _ in self.results)

    def _score(self, layer: Layer) -> list[Any] | None:
        value = layer.scores.get(self.item.id)
        return None if value is None else [value, told(value, scores.main_metric(layer.quantity))]


def _about(layer: Layer) -> dict[str, Any]:
    if not layer.scores:
        return {"title": layer.title}
    metric = scores.main_metric(layer.quantity)
    return {"title": layer.title, "metric": metric.title, "lower": metric.better == "lower"}


def _judged(layers: Sequence[Layer]) -> dict[str, float]:
    """The mean score of each image over the layers of the last quantity; higher is better."""
    scored = [layer for layer in layers if layer.scores]
    judges = [layer.scores for layer in scored if layer.quantity == scored[-1].quantity]
    ids = set[str].intersection(*map(set, judges)) if judges else set()
    sign = -1 if judges and scores.main_metric(scored[-1].quantity).better == "lower" else 1
    return {id: sign * fmean(judge[id] for judge in judges) for id in ids}


def _name(value: int, classes: Sequence[str]) -> str:
    return "background" if value == 0 else "void" if value == VOID else classes[value - 1]
