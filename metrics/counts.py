"""All that is counted of one label map against its mask, and the scores of sums of such counts.

Counts are arrays int64 by name: `region` [...,K+1,K+1] (`metrics.region`), `contour` [...,K,4] (`metrics.contour`) and `sizes`
[...,K,3,4] (`metrics.sizes`), for K foreground classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array

from metrics import contour, region, sizes

Counts = Mapping[str, np.ndarray]


def of_label_map(truth: np.ndarray, label: np.ndarray, matrix: np.ndarray) -> dict[str, np.ndarray]:
    """The counts of a uint8 label map, whose confusion matrix [K+1,K+1] is there already."""
    classes = len(matrix) - 1
    return {"region": matrix, "contour": contour.matches(truth, label, classes), "sizes": sizes.by_size(truth, label, classes)}


def means(counts: Counts, convention: region.Convention = "union") -> dict[str, np.ndarray]:
    """The metrics [...] by name; `jf`, J&F, is the mean of mIoU (J) and contour quality (F), as in HFPL."""
    found = region.means(counts["region"], convention)
    f = contour.mean_f(counts["contour"], convention)
    return {**found, "f": f, "jf": (found["miou"] + f) / 2, **sizes.means(counts["sizes"])}


def per_class(counts: Counts, class_names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """F and the IoU by size of each foreground class, as JSON."""
    values = np.column_stack([contour.f(counts["contour"]), sizes.iou(counts["sizes"])])
    names = ("f", *(f"iou_{size}" for size in sizes.SIZES))
    return {name: dict(zip(names, map(region.number, row), strict=True)) for name, row in zip(class_names, values, strict=True)}


def sparse(counts: Counts) -> dict[str, np.ndarray]:
    """The counts of one image in little space: those that are not 0, and their places among all, one array after the other."""
    flat = np.concatenate([counts[name].ravel() for name in _shapes(0)])
    cells = np.flatnonzero(flat)
    return {"cells": cells, "counts": flat[cells]}


def of_lists(records: Iterable[Mapping[str, np.ndarray]], classes: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function of weights [B,n]: the counts of B lists in which image i occurs weights[:,i] times, from `sparse` records."""
    shapes, kept = _shapes(classes), list(records)
    *ends, length = np.cumsum([np.prod(shape) for shape in shapes.values()])
    starts = np.cumsum([0, *(len(record["cells"]) for record in kept)])
    cells, counts = (np.concatenate([np.zeros(0, np.int64), *(record[name] for record in kept)]) for name in ("cells", "counts"))
    images = csr_array((counts, cells, starts), shape=(len(kept), length))

    def summed(weights: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(weights @ images, ends, axis=1)
        return {name: part.reshape(-1, *shapes[name]) for name, part in zip(shapes, parts, strict=True)}

    return summed


def _shapes(classes: int) -> dict[str, tuple[int, ...]]:
    """The shape of each array of one image, in the order in which `sparse` keeps them."""
    return {"region": (classes + 1, classes + 1), "contour": (classes, 4), "sizes": (classes, len(sizes.SIZES), 4)}
