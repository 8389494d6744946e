"""Scores of maps at every background threshold in one pass over the pixels.

The label at threshold t is argmax over [t, maps]: the class of the largest map if that exceeds t, else background.
The largest map and its class do not depend on t. One joint histogram over (truth, class, number of thresholds
below the value) therefore gives every threshold's confusion matrix as a cumulative sum.
"""

from math import prod
from typing import Any

import numpy as np

from imagesets.errors import WrongInput
from maps.labelling import highest
from metrics import region


def sweep(
    maps: np.ndarray,
    keys: np.ndarray,
    truth: np.ndarray,
    thresholds: np.ndarray,
    foreground_classes: int,
    background: np.ndarray | None = None,
) -> np.ndarray:
    """The exact confusion matrices int64 [T,K+1,K+1] of argmax over [t, maps] for each t of ascending `thresholds` [T].

    maps float32 [n,H,W] of the 0-based classes `keys` [n]; truth uint8 [H,W], 255 left out. Values are compared in
    float32, and a value equal to t is background, as with argmax over a float32 stack. A `background` map float32
    [H,W] of the method's own replaces every threshold; all matrices are then equal.
    Raises WrongInput on sizes that differ and on labels outside the truth's range.
    """
    if maps.shape[1:] != truth.shape:
        raise WrongInput(f"maps of size {maps.shape[1:]} cannot be scored on a mask of size {truth.shape}")
    labels = foreground_classes + 1
    value, winner = highest(maps)
    below = _thresholds_below(value, np.asarray(thresholds, np.float32), background)
    shape = 256, max(len(maps), 1), len(thresholds) + 1
    cell = np.ravel_multi_index((truth.ravel(), winner.ravel(), below), shape)
    counts = np.bincount(cell, minlength=prod(shape)).reshape(shape)
    region.check_truth(counts.sum((1, 2)), labels)
    counts = counts[:labels]
    foreground = _exceeding(counts)
    matrices = np.zeros((len(thresholds), labels, labels), np.int64)
    matrices[:, :, np.asarray(keys, np.intp) + 1] = foreground[:, : len(maps)].transpose(2, 0, 1)
    matrices[:, :, 0] = (counts.sum((1, 2))[:, None] - foreground.sum(1)).T
    return matrices


def _thresholds_below(value: np.ndarray, thresholds: np.ndarray, background: np.ndarray | None) -> np.ndarray:
    """The number [H*W] of `thresholds` [T] that each value [H,W] exceeds; with a background map, all or none."""
    if background is None:
        return np.searchsorted(thresholds, value.ravel(), side="left")
    return np.where(value > background, len(thresholds), 0).ravel()


def _exceeding(counts: np.ndarray) -> np.ndarray:
    """How many pixels exceed threshold i, [..., T], from counts [..., T+1] of pixels by the number of thresholds below them."""
    return counts.sum(-1, keepdims=True) - counts.cumsum(-1)[..., :-1]


def curve(matrices: np.ndarray, thresholds: np.ndarray, convention: region.Convention = "union") -> dict[str, list[Any]]:
    """Threshold, mIoU and foreground-mean precision and recall of matrices [T,K+1,K+1], as JSON lists."""
    scores = {
        "threshold": np.asarray(thresholds, np.float64),
        "miou": region.miou(matrices, convention),
        "precision": region.foreground_mean(region.precision(matrices)),
        "recall": region.foreground_mean(region.recall(matrices)),
    }
    return {name: [region.number(value) for value in values] for name, values in scores.items()}


def best(scores: dict[str, list[Any]]) -> dict[str, Any]:
    """The threshold of `curve` with the highest mIoU, the lowest of equal ones.

    It is an oracle: optimistic, chosen on the same masks.
    """
    values = [-1.0 if value is None else value for value in scores["miou"]]
    index = int(np.argmax(values))
    return {"threshold": scores["threshold"][index], "miou": scores["miou"][index]}
