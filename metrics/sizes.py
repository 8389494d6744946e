"""IoU by the size of objects: mIoU counts pixels, so it says little of small objects.

An object is a connected component (8 neighbours) of one class in the mask. It is small up to 1 % of the image's pixels, medium
up to 10 %, large above. The union of a class is divided among the sizes:
* T: the pixels of the objects of the size, and TP: those that are predicted right;
* FP: the wrong pixels of each connected component of the prediction. They count for the size of the object that the component
  covers most, or for the component's own size if it covers no object of its class.
So TP, T and FP of the three sizes add up to those of the class, and IoU = TP / (T + FP) of a size is the class's IoU if all
objects and predicted components are of this size. Counts are int64 [..., K, 3, 4] of the K foreground classes and the sizes: TP,
T, FP and the number of objects. They are summed over the list before any ratio. Void pixels of the truth are in no count.

What it does not see: all image sets have masks, but few of them say which pixels are one object, so no set's object masks are
read. Two objects of a class that touch without void between them are one; an object behind another may be several. VOC's masks
have void between objects. A component that covers objects of two sizes has all its wrong pixels counted for one of them. What is
predicted far from every object counts little here: for a size without objects of the class, only mIoU counts it.
"""

import cv2
import numpy as np

from imagesets.item import VOID
from metrics import region
from metrics.classwise import by_class

PARTS = (100, 10)  # a small object is at most a hundredth of the image, a medium one at most a tenth
SIZES = ("small", "medium", "large")


def by_size(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """The counts int64 [classes,3,4] of two uint8 label maps of one size."""
    counts = np.zeros((classes, len(SIZES), 4), np.int64)
    for index, true, predicted, window in by_class(truth, prediction, classes):
        counts[index] = _of_class(true, predicted, truth[window] != VOID, truth.size)
    return counts


def iou(counts: np.ndarray) -> np.ndarray:
    """TP / (T + FP) per class and size [..., K, 3]; NaN for a class without objects of the size."""
    right, pixels, wrong, objects = np.moveaxis(counts, -1, 0)
    return np.where(objects > 0, right / np.maximum(pixels + wrong, 1), np.nan)


def means(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The mean IoU [...] of each size, as `iou_small` and so on, over the foreground classes with objects of that size."""
    values = iou(counts)
    return {f"iou_{size}": region.mean_present(values[..., place]) for place, size in enumerate(SIZES)}


def _of_class(true: np.ndarray, predicted: np.ndarray, counted: np.ndarray, pixels: int) -> np.ndarray:
    """The counts [3,4] of one class from its planes, in an image of `pixels` pixels."""
    objects, object_of = cv2.connectedComponents(true, connectivity=8)
    parts, part_of = cv2.connectedComponents(predicted, connectivity=8)
    part_of *= counted  # after the components were found, because an object's halo goes across its void border
    joint = part_of * objects + object_of
    shared = np.bincount(joint.ravel(), minlength=parts * objects).reshape(parts, objects)  # row 0: no part; column 0: no object
    area, area_of_part = shared[:, 1:].sum(0), shared[1:].sum(1)
    inside, outside = shared[1:, 1:], shared[1:, 0]  # pixels of each part in each object, and in none
    size, size_of_part = _size(area, pixels), _size(area_of_part, pixels)
    if objects > 1:
        size_of_part = np.where(inside.any(1), size[inside.argmax(1)], size_of_part)  # that of the object that it covers most
    right = np.bincount(size, inside.sum(0), len(SIZES))
    all_pixels = np.bincount(size, area, len(SIZES))
    wrong = np.bincount(size_of_part, outside, len(SIZES))
    number = np.bincount(size, minlength=len(SIZES))
    return np.stack([right, all_pixels, wrong, number], axis=1).astype(np.int64)


def _size(area: np.ndarray, pixels: int) -> np.ndarray:
    """The places in `SIZES` of areas in pixels [n]."""
    return (area[:, None] * np.array(PARTS) > pixels).sum(1)
