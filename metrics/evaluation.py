"""Scores of maps and of label maps over a whole list: the counts of all images are summed before any score.

Fixed protocol: void pixels of the truth are not counted. A predicted 255 counts as background. A seed is scored at the
threshold of its method; the best threshold is reported separately and called an oracle. Images with one class and
images with several are also scored separately (ReCAM Fig. 6b).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from imagesets.item import Item
from maps.labelling import label_map
from metrics import counts, region, sizes, thresholds
from training.stage import Context, Settings

VOID_RULE = "255 in the truth is not counted, 255 in a prediction is background"


def score_maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Per image the confusion matrices int64 [T,K+1,K+1] of its full-size maps at each threshold (see `_record`)."""
    records, grid, fixed = context.inputs["maps"], threshold_grid(context.settings), _fixed(context.settings)

    def one(item: Item) -> dict[str, np.ndarray]:
        maps, truth = records[item.id], item.truth()
        own = maps.background(full=True)
        if own is None and context.settings.maps.seed_threshold is None:
            raise ValueError(f"the maps of {item.id} have no background of their own, but their recipe says so (provides)")
        full, background = maps.full().numpy(), None if own is None else own.numpy()
        matrices = thresholds.sweep(full, maps.keys, truth, grid, len(context.classes), background)
        label = label_map(full, maps.keys, grid[fixed] if background is None else background)
        return _record(item, matrices, counts.of_label_map(truth, label, matrices[fixed]))

    return one


def score_labels(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Per image the confusion matrix int64 [K+1,K+1] of its label map (see `_record`)."""
    (records,) = context.inputs.values()

    def one(item: Item) -> dict[str, np.ndarray]:
        truth, label = item.truth(), records[item.id]["label"]
        matrix = region.confusion(truth, label, len(context.classes) + 1)
        return _record(item, matrix, counts.of_label_map(truth, label, matrix))

    return one


def seed_result(settings: Settings, classes: Sequence[str], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The JSON result of summed `score_maps`: scores at the fixed threshold, the curve over all thresholds, and the oracle.

    Maps with a background map of their own have neither a threshold nor a curve.
    """
    grid, place = threshold_grid(settings), _fixed(settings)
    result = _result(settings, classes, arrays["confusion"][place], arrays)
    if settings.maps.seed_threshold is None:
        return result
    curve = thresholds.curve(arrays["confusion"], grid, settings.miou)
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
    summed = counts.of_lists(records, len(classes))
    return lambda weights: counts.means(summed(weights), protocol["miou"])


def _record(item: Item, matrices: np.ndarray, scored: counts.Counts) -> dict[str, np.ndarray]:
    """The record of one image: its confusion matrices, its other counts, and its matrix if it has one label or several.

    These are to be summed. The counts `scored` are kept for each image.
    """
    labels, matrix = len(item.labels), scored["region"]
    parts = {"one": matrix * (labels == 1), "several": matrix * (labels > 1)}
    return {"confusion": matrices, "contour": scored["contour"], "sizes": scored["sizes"], **parts, **counts.sparse(scored)}


def _result(settings: Settings, classes: Sequence[str], whole: np.ndarray, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The scores of the summed counts, with the confusion matrix `whole`, and those of images with one label and with several."""
    scored = {"region": whole, "contour": arrays["contour"], "sizes": arrays["sizes"]}
    result = region.summary(whole, classes, settings.miou)
    for name, values in counts.per_class(scored, classes).items():
        result["per_class"][name] |= values
    return result | {
        "metrics": {name: region.number(value) for name, value in counts.means(scored, settings.miou).items()},
        "by_labels": {name: region.summary(arrays[name], classes, settings.miou)["metrics"] for name in ("one", "several")},
        "objects": dict(zip(sizes.SIZES, arrays["sizes"][..., 3].sum(0).tolist(), strict=True)),
        "pixels": int(whole.sum()),
        "protocol": {"miou": settings.miou, "void": VOID_RULE},
    }


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
