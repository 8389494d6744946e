"""The examples of an epoch: what one example is, and the order of all."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Example = Any  # an Item, or what a training draws instead: a pair of items, an item and a window of it


class Chosen(Sequence[Example]):
    """The examples of `source` at `places`, in that order; each is made only when it is read, because lists may be long."""

    def __init__(self, source: Sequence[Example], places: np.ndarray):
        self.source, self.places = source, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]  # no slices
        return self.source[int(self.places[index])]


def shuffled(items: Sequence[Example], rng: np.random.Generator) -> Sequence[Example]:
    """Each item once, in random order."""
    return Chosen(items, rng.permutation(len(items)))
