"""The seed threshold `auto`: a number for all images, from the values of their maps alone.

Each pixel counts with its highest map. The threshold lies halfway between two that the distribution of these values has:

* their mean. Achanta et al. (Frequency-tuned Salient Region Detection, CVPR 2009) cut saliency at a multiple of it. Most pixels
  are background, so the mean alone is low, above all where objects are small;
* Otsu's threshold (A Threshold Selection Method from Gray-Level Histograms, 1979), which parts the values into two groups with
  the most variance between them. It favours groups of equal size, so it alone is high where objects are small.

docs/methods.md says how near it comes to the best threshold, and which rules were worse.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from imagesets.errors import WrongInput
from imagesets.item import Item
from maps.maps import Maps
from training.stage import Context, Settings

BINS = 200  # of the values 0..1: half a hundredth, and thresholds are told in hundredths
CENTRES = (np.arange(BINS) + 0.5) / BINS


def heights(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage: the histogram of one image."""
    return lambda item: {"pixels": of_maps(context.inputs["maps"][item.id])}


def chosen(settings: Settings, classes: Sequence[str], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The JSON result of summed `heights`."""
    if not arrays["pixels"].any():
        raise WrongInput("seed_threshold=auto needs maps to choose from, and no image of the training list has a class")
    return {"chosen": round(threshold(arrays["pixels"]), 2)}


def of_maps(maps: Maps) -> np.ndarray:
    """The histogram of the highest maps of one image, int64 [BINS]; an image without classes has no say.

    The stride-4 grid gives the threshold of full size within 0.01, in a quarter of the time.
    """
    return histogram(maps.strided().amax(dim=0)) if len(maps.keys) else np.zeros(BINS, np.int64)


def histogram(values: torch.Tensor) -> np.ndarray:
    """How many of some values lie in each bin, int64 [BINS]; values outside 0..1 count in the first or last."""
    return np.bincount((values * BINS).long().clamp(0, BINS - 1).flatten().numpy(), minlength=BINS)


def threshold(pixels: np.ndarray) -> float:
    """The threshold of a histogram [BINS] that is not empty: halfway between the mean and Otsu's."""
    return (float(pixels @ CENTRES / pixels.sum()) + otsu(pixels)) / 2


def otsu(pixels: np.ndarray) -> float:
    """The border of two bins of a histogram [BINS] with the most variance between the values below and above it."""
    below, total = pixels.cumsum(dtype=float)[:-1], float(pixels.sum())  # a product of two counts may exceed int64
    part, whole = (pixels * CENTRES).cumsum()[:-1], pixels @ CENTRES
    with np.errstate(divide="ignore", invalid="ignore"):  # where a group is empty
        between = below * (total - below) / total**2 * (part / below - (whole - part) / (total - below)) ** 2
    return float(np.where((below > 0) & (below < total), between, 0).argmax() + 1) / BINS
