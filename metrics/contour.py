"""Contour quality F: how much of the contours of truth and prediction lie close to each other, for each class.

Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR 2016, in the form of HFPL
(Jonnarth et al., High-fidelity Pseudo-labels for Boosting Weakly-Supervised Segmentation): the counts are summed over the whole
list before any ratio, and void pixels of the truth are background, so they make contours too.

A pixel is on the contour of a class if one of itself, its right, its lower and its lower right neighbour belongs to the class
and another does not. It matches if a contour pixel of the other label map lies within ceil(0.008 * diagonal) pixels.
Counts are int64 [..., K, 4] of the K foreground classes: matches of the truth, matches of the prediction, contour pixels of
the truth, contour pixels of the prediction. With R_c = matches / pixels of the truth and P_c = the same of the prediction,
F_c = 2 P_c R_c / (P_c + R_c). A class whose contour is in one of the two only has F_c = 0.
"""

import math
from functools import lru_cache

import cv2
import numpy as np

from metrics import region
from metrics.classwise import by_class

TOLERANCE = 0.008  # of the image's diagonal, as in DAVIS and HFPL
CORNER = np.ones((2, 2), np.uint8)  # a pixel with its right, lower and lower right neighbours


def matches(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """The counts int64 [classes,4] of two uint8 label maps of one size; other labels than 1..classes are background."""
    near = disk(math.ceil(TOLERANCE * math.hypot(*truth.shape)))
    counts = np.zeros((classes, 4), np.int64)
    for index, *planes, _ in by_class(truth, prediction, classes):
        true, predicted = map(contour, planes)
        matched = true & cv2.dilate(predicted, near), predicted & cv2.dilate(true, near)
        counts[index] = [cv2.countNonZero(plane) for plane in (*matched, true, predicted)]
    return counts


def contour(mask: np.ndarray) -> np.ndarray:
    """The contour of a plane [H,W] of 0 and 1; beyond the image's border a pixel has no neighbour to differ from."""
    return cv2.dilate(mask, CORNER, anchor=(0, 0)) - cv2.erode(mask, CORNER, anchor=(0, 0))


@lru_cache
def disk(radius: int) -> np.ndarray:
    """The offsets within `radius` pixels, uint8 [2 radius + 1, 2 radius + 1]."""
    row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (row**2 + column**2 <= radius**2).astype(np.uint8)


def f(counts: np.ndarray) -> np.ndarray:
    """F per class [..., K]; NaN for a class without a contour in truth and prediction."""
    matched, pixels = counts[..., :2], counts[..., 2:]
    shares = matched / np.maximum(pixels, 1)  # where there is no contour there is no match either: 0
    product, total = shares.prod(-1), shares.sum(-1)
    return np.where(pixels.any(-1), 2 * product / np.where(total > 0, total, 1), np.nan)


def mean_f(counts: np.ndarray, convention: region.Convention = "union") -> np.ndarray:
    """The mean of F [...] over the foreground classes that `convention` names; NaN if there are none.

    `union`: those with a contour in truth or prediction; `truth`: in the truth; `all`: every class, one without any
    contour as 1, as HFPL counts it.
    """
    values = f(counts)
    if convention == "all":
        return np.nan_to_num(values, nan=1.0).mean(-1)
    if convention == "truth":
        values = np.where(counts[..., 2] > 0, values, np.nan)
    return region.mean_present(values)
