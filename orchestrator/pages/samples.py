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
from orchestrator.engine.context import stored
from orchestrator.pages.choice import choose
from orchestrator.pages.pictures import heat_picture, heat_scale, label_picture, photograph
from orchestrator.planning import scores
from orchestrator.reading.numbers import told
from refiners.threshold import label_map

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
    heats = [place for place, layer in enumerate(layers) if layer.read]
    truth = [TRUTH] if any(sample.item.mask for sample in samples) else []
    return {
        "title": title,
        "legend": [[_name(value, classes), f"rgb({','.join(map(str, PALETTE[value]))})"] for value in seen],
        "heat": heat_scale(),
        "layers": [
            *({"title": name} for name in truth),
            *(_about(layer) for layer in layers),
            *({"title": f"maps of {layers[place].title}", "heat": True} for place in heats),
        ],
        "samples": [sample.as_json(bool(truth), heats, seen, classes) for sample in samples],
    }


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

    def as_json(self, with_truth: bool, heats: Sequence[int], seen: Sequence[int], classes: Sequence[str]) -> dict[str, Any]:
        rgb = self.item.rgb()
        names = [classes[index] for index in self.item.labels]
        return {
            "id": self.item.id,
            "labels": names,
            "size": [rgb.shape[1], rgb.shape[0]],
            "photograph": photograph(rgb),
            "legend": [seen.index(value) for value in sorted(self.values)],
            "pictures": [
                *([None if self.truth is None else label_picture(self.truth)] if with_truth else []),
                *(label_picture(label) for label, _ in self.results),
                *({classes[key]: heat_picture(heat) for key, heat in self.results[place][1].items()} for place in heats),
            ],
            "scores": [*([None] if with_truth else []), *map(self._score, self.layers), *[None] * len(heats)],
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
