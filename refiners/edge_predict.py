"""EdgePredict (EP): label pixels that maps leave unknown by what surrounds them up to the next edge of the maps.

Jo, Yu and Kim, RecurSeed and EdgePredictMix, arXiv 2204.06754. Edges of the maps, not of the image, cut it into superpixels.
In each superpixel the unknown pixels take its most frequent label. Without a closed contour, everything outside is one
superpixel, so most unknown pixels become background; a class gains where they lie inside a closed edge.

The public code has two functions, an edge detector and the relabelling, and no caller. We follow the functions:
* the detector is Canny with the thresholds 10 and 100 on blurred grey levels;
* pixels that have a label keep it. Only on the edge itself background becomes unknown.
The text says that edges lie "between class probabilities". `source` "max" detects them on the highest map. "classes" detects
them on every map, which separates touching classes where the highest map is flat.

OpenCV computes on the CPU. Maps on a GPU go to the CPU and their labels come back, so the GPU waits for this.
"""

import cv2
import numpy as np
import torch

UNKNOWN = 255
BLUR = (5, 5)  # cells; OpenCV's kernel of this size is [1,4,6,4,1]/16 in each direction
LOW, HIGH = 10, 100  # Canny's thresholds in grey levels


def predicted(
    probabilities: torch.Tensor, labels: torch.Tensor, source: str = "max", windows: torch.Tensor | None = None
) -> torch.Tensor:
    """The labels [B,H,W] of images after EP, from the probabilities [B,n,H,W] of their classes; on the device of `labels`.

    Labels are 0, class index + 1, or 255 for unknown, in any integer type. With `windows` [B,4] (top, left, bottom, right, in
    pixels) EP sees what is inside of them and leaves the rest: padding around an image would count for its superpixels.
    """
    seen = probabilities.amax(dim=1, keepdim=True) if source == "max" else probabilities  # one plane is less to copy
    found = labels.cpu().numpy().astype(np.uint8)
    whole = [[0, 0, *labels.shape[1:]]] * len(labels)
    boxes = whole if windows is None else windows.tolist()
    for own, planes, (top, left, bottom, right) in zip(found, seen.detach().float().cpu().numpy(), boxes, strict=True):
        where = slice(top, bottom), slice(left, right)
        own[where] = relabelled(own[where], edges(np.ascontiguousarray(planes[(slice(None), *where)]), source))
    return torch.from_numpy(found).to(labels)


def edges(probability: np.ndarray, source: str = "max") -> np.ndarray:
    """The edges of maps float32 [n,H,W] in 0..1: uint8 [H,W], 255 on an edge, else 0.

    `source` "max": of the highest map; "classes": of any of the maps.
    """
    planes = probability.max(axis=0, keepdims=True, initial=0) if source == "max" else probability
    found = np.zeros(probability.shape[1:], np.uint8)
    for grey in (255 * planes).astype(np.uint8):
        if grey.any():  # most classes are not in an image
            found |= cv2.Canny(cv2.GaussianBlur(grey, BLUR, 0), LOW, HIGH)
    return found


def relabelled(labels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The labels uint8 [H,W] after EP, from labels uint8 [H,W] and edges [H,W], which are not 0 on an edge.

    Superpixels are the 4-connected components of all other pixels. Their most frequent value may be 255; ties go to the
    smallest.
    """
    count, superpixels = cv2.connectedComponents((edges == 0).astype(np.uint8), connectivity=4)
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    places = np.searchsorted(values, labels)
    counts = np.bincount((superpixels * len(values) + places).ravel(), minlength=count * len(values))
    winners = values[counts.reshape(count, -1).argmax(axis=1)].astype(np.uint8)
    winners[0] = UNKNOWN  # component 0 is the edge
    turned = (labels == UNKNOWN) | ((labels == 0) & (edges != 0))
    return np.where(turned, winners[superpixels], labels)
