"""Scores of maps and of label maps over a whole list: the confusion matrices of all images are summed before any score.

Fixed protocol: void pixels of the truth are not counted. A predicted 255 counts as background. A seed is scored at the
threshold of its method; the best threshold is reported separately and called an oracle. Images with one class and
images with several are also scored separately (ReCAM Fig. 6b).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from imagesets.item import Item
from metrics import region, thresholds
from training.stage import Context, Settings

VOID_RULE = "255 in the truth is not counted, 255 in a prediction is background"


def score_maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Per image the confusion matrices int64 [T,K+1,K+1] of its full-size maps at each threshold (see `_record`)."""
    records, grid, fixed = context.inputs["maps"], threshold_grid(context.settings), _fixed(context.settings)

    def one(item: Item) -> dict[str, np.ndarray]:
        maps, classes = records[item.id], len(context.classes)
        own = maps.background(full=True)
        if own is None and context.settings.maps.seed_threshold is None:
            raise ValueError(f"the maps of {item.id} have no background of their own, but their recipe says so (provides)")
        background = None if own is None else own.numpy()
        matrices = thresholds.sweep(maps.full().numpy(), maps.keys, item.truth(), grid, classes, background)
        return _record(item, matrices, matrices[fixed])

    return one


def score_labels(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Per image the confusion matrix int64 [K+1,K+1] of its label map (see `_record`)."""
    (records,) = context.inputs.values()

    def one(item: Item) -> dict[str, np.ndarray]:
        matrix = region.confusion(item.truth(), records[item.id]["label"], len(context.classes) + 1)
        return _record(item, matrix, matrix)

    return one


def seed_result(settings: Settings, classes: Sequence[str], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The JSON result of summed `score_maps`: scores at the fixed threshold, the curve over all thresholds, and the oracle.

    Maps with a background map of their own have neither a threshold nor a curve.
    """
    grid, place = threshold_grid(settings), _fixed(settings)
    if settings.maps.seed_threshold is None:
        return _result(settings, classes, arrays["confusion"][place], arrays)
    curve = thresholds.curve(arrays["confusion"], grid, settings.miou)
    result = _result(settings, classes, arrays["confusion"][place], arrays)
    result["protocol"]["threshold"] = float(grid[place])
    return result | {"curve": curve, "oracle": thresholds.best(curve)}


def label_result(settings: Settings, classes: Sequence[str], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The JSON result of summed `score_labels`."""
    return _result(settings, classes, arrays["confusion"], arrays)


def resampled(
    protocol: Mapping[str, Any], classes: Sequence[str], records: Iterable[Mapping[str, np.ndarray]]
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function of weights [B,n]: it gives the metrics [B], by name, of B lists in which image i occurs weights[:,i] times.

    `records` holds the kept arrays of each image; `protocol` is the protocol of the result.
    """
    size, kept = len(classes) + 1, list(records)
    starts = np.cumsum([0, *(len(record["cells"]) for record in kept)])
    cells, counts = (np.concatenate([np.zeros(0, np.int64), *(record[name] for record in kept)]) for name in ("cells", "counts"))
    images = csr_array((counts, cells, starts), shape=(len(kept), size * size))
    return lambda weights: region.means((weights @ images).reshape(-1, size, size), protocol["miou"])


def _record(item: Item, matrices: np.ndarray, scored: np.ndarray) -> dict[str, np.ndarray]:
    """The record of one image: the confusion matrices to sum, and the matrix `scored` if it has one label or several.

    For each image are kept: the cells of `scored` that are not 0, and their places in the flat matrix.
    """
    cells, labels = np.flatnonzero(scored), len(item.labels)
    parts = {"one": scored * (labels == 1), "several": scored * (labels > 1)}
    return {"confusion": matrices, **parts, "cells": cells, "counts": scored.ravel()[cells]}


def _result(settings: Settings, classes: Sequence[str], whole: np.ndarray, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The scores of the matrix `whole`, and those of the images with one label and with several."""
    protocol = {"miou": settings.miou, "void": VOID_RULE}
    by_labels = {name: region.summary(arrays[name], classes, settings.miou)["metrics"] for name in ("one", "several")}
    result = region.summary(whole, classes, settings.miou)
    return result | {"by_labels": by_labels, "pixels": int(whole.sum()), "protocol": protocol}


def threshold_grid(settings: Settings) -> np.ndarray:
    """The thresholds [start, stop) by step, with the fixed one, in ascending order; 0 alone for maps that have no threshold."""
    if settings.maps.seed_threshold is None:
        return np.zeros(1)
    start, stop, step = settings.thresholds
    # rounded, so that 0.15 of the grid equals a fixed 0.15
    steps = np.round(np.arange(start, stop, step), 6)
    return np.unique([*steps[steps < stop], settings.maps.seed_threshold])


def _fixed(settings: Settings) -> int:
    """The place of the fixed threshold in the grid."""
    return int(np.flatnonzero(threshold_grid(settings) == (settings.maps.seed_threshold or 0))[0])
