"""Region scores: the confusion matrix of a whole set of images, and the scores that papers derive from it.

A confusion matrix is int64 [..., C, C] (rows truth, columns prediction, void pixels left out), summed over all images
before any ratio is taken. T_c are its row sums (truth), P_c its column sums (prediction), TP_c its diagonal, and
U_c = T_c + P_c - TP_c the union. Ratios are float64 fractions in 0..1, and NaN for 0 / 0. Leading
dimensions, such as thresholds, are kept.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from imagesets.errors import WrongInput
from imagesets.item import VOID

# the classes of the mean: those with pixels in truth or prediction (VOC devkit, IRN, ReCAM, LPCAM, mmsegmentation),
# those with pixels in the truth (kazuto1011/deeplab-pytorch), or all, absent ones as 0 (SEAM and hfpl segmentation code)
Convention = Literal["union", "truth", "all"]


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """The confusion matrix int64 [classes,classes] of two uint8 label maps of one size.

    Pixels whose truth is 255 are left out. A predicted 255 counts as background (IRN, ReCAM). Raises WrongInput on sizes that
    differ and on labels outside 0..classes-1.
    """
    if truth.dtype != np.uint8 or prediction.dtype != np.uint8:
        raise WrongInput(f"label maps must be uint8, not {truth.dtype} and {prediction.dtype}")
    if truth.shape != prediction.shape:
        raise WrongInput(f"a prediction of size {prediction.shape} cannot be scored on a mask of size {truth.shape}")
    # 256 x 256 cells: counting all values of a byte finds wrong labels at no cost
    joint = (truth.astype(np.uint16) << 8) | prediction
    counts = np.bincount(joint.ravel(), minlength=1 << 16).reshape(256, 256)
    check_truth(counts.sum(1), classes)
    counts = counts[:classes]
    counts[:, 0] += counts[:, VOID]
    counts[:, VOID] = 0
    if counts[:, classes:].any():
        wrong = int(np.flatnonzero(counts.sum(0))[-1])
        raise WrongInput(f"a prediction holds label {wrong}; there are {classes} labels, 0 to {classes - 1}")
    return counts[:, :classes]


def check_truth(present: np.ndarray, classes: int) -> None:
    """Raise WrongInput where the pixel counts `present` [256] of a mask hold a label that is neither 0..classes-1 nor 255."""
    wrong = np.flatnonzero(present[classes:VOID]) + classes
    if len(wrong):
        raise WrongInput(f"a mask holds label {wrong[0]}; there are {classes} labels, 0 to {classes - 1}, and 255 for void")


def iou(matrix: np.ndarray) -> np.ndarray:
    """TP / U per class [..., C]; NaN where a class is in neither truth nor prediction."""
    correct, truth, predicted = _counts(matrix)
    return _ratio(correct, truth + predicted - correct)


def miou(matrix: np.ndarray, convention: Convention = "union") -> np.ndarray:
    """Mean IoU [...] over the classes that `convention` names; NaN if there are none."""
    values = iou(matrix)
    if convention == "all":
        return np.nan_to_num(values).mean(-1)
    if convention == "truth":
        values = np.where(matrix.sum(-1) > 0, values, np.nan)
    return mean_present(values)


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share [...] of counted pixels that are right."""
    correct, truth, _ = _counts(matrix)
    return _ratio(correct.sum(-1), truth.sum(-1))


def mean_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Mean of TP / T over the classes of the truth [...]."""
    return mean_present(recall(matrix))


def frequency_weighted_iou(matrix: np.ndarray) -> np.ndarray:
    """Sum over classes of T_c / sum T * IoU_c [...]."""
    weight = matrix.sum(-1)
    return _ratio((weight * np.nan_to_num(iou(matrix))).sum(-1), weight.sum(-1))


def precision(matrix: np.ndarray) -> np.ndarray:
    """TP / P per class [..., C]; NaN where a class is never predicted."""
    correct, _, predicted = _counts(matrix)
    return _ratio(correct, predicted)


def recall(matrix: np.ndarray) -> np.ndarray:
    """TP / T per class [..., C]; NaN where a class is not in the truth."""
    correct, truth, _ = _counts(matrix)
    return _ratio(correct, truth)


def false_positives(matrix: np.ndarray) -> np.ndarray:
    """(P - TP) / U per class [..., C] (LPCAM Table 1, RecurSeed Tables 3 and 9); IoU + FP + FN = 1."""
    correct, truth, predicted = _counts(matrix)
    return _ratio(predicted - correct, truth + predicted - correct)


def false_negatives(matrix: np.ndarray) -> np.ndarray:
    """(T - TP) / U per class [..., C] (LPCAM Table 1, RecurSeed Tables 3 and 9)."""
    correct, truth, predicted = _counts(matrix)
    return _ratio(truth - correct, truth + predicted - correct)


def error_shares(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Shares [...], which sum to 1, of the pixels that are foreground in truth or prediction (ReCAM Table S3).

    `tp`: the right class; `fp_object`: an object predicted as another class; `fp_background`: background
    predicted as a class; `fn`: an object predicted as background. The paper does not define its shares; this is our reading.
    """
    correct, _, _ = _counts(matrix[..., 1:, 1:])
    objects = matrix[..., 1:, 1:].sum((-2, -1))
    counts = {
        "tp": correct.sum(-1),
        "fp_object": objects - correct.sum(-1),
        "fp_background": matrix[..., 0, 1:].sum(-1),
        "fn": matrix[..., 1:, 0].sum(-1),
    }
    return {name: _ratio(count, sum(counts.values())) for name, count in counts.items()}


def mean_present(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN if all values are."""
    return _ratio(np.nansum(values, axis=-1), (~np.isnan(values)).sum(-1))


def foreground_mean(values: np.ndarray) -> np.ndarray:
    """Mean of per-class values [..., C] over the foreground classes; papers average everything except mIoU like this."""
    return mean_present(values[..., 1:])


_PER_CLASS = {
    "iou": iou,
    "precision": precision,
    "recall": recall,
    "fp": false_positives,
    "fn": false_negatives,
}


def means(matrix: np.ndarray, convention: Convention = "union") -> dict[str, np.ndarray]:
    """The scores of matrices [...,C,C] by name, one number each [...]; precision, recall, FP and FN are foreground means."""
    return {
        "miou": miou(matrix, convention),
        "pixel_accuracy": pixel_accuracy(matrix),
        "mean_accuracy": mean_accuracy(matrix),
        "frequency_weighted_iou": frequency_weighted_iou(matrix),
        **{name: foreground_mean(score(matrix)) for name, score in _PER_CLASS.items() if name != "iou"},
    }


def summary(matrix: np.ndarray, class_names: Sequence[str], convention: Convention = "union") -> dict[str, Any]:
    """All scores of one matrix [C,C] as JSON: `metrics` (`means`) by name, `per_class` by class name, `errors`; NaN becomes None.

    `class_names` are the foreground classes.
    """
    values = {name: score(matrix) for name, score in _PER_CLASS.items()}
    names = ["background", *class_names]
    return {
        "metrics": {name: number(value) for name, value in means(matrix, convention).items()},
        "per_class": {label: {name: number(value[index]) for name, value in values.items()} for index, label in enumerate(names)},
        "errors": {name: number(value) for name, value in error_shares(matrix).items()},
    }


def number(value: np.ndarray | float) -> float | None:
    """A float that JSON can hold: None for NaN."""
    return None if np.isnan(value) else float(value)


def _counts(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """TP, T and P per class."""
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 must give NaN
        return part / np.asarray(whole, np.float64)
