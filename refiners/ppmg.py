"""PPMG: proportional pseudo-mask generation, PMM's rule from maps to pseudo masks.

Li et al., Pseudo-mask Matters in Weakly-supervised Semantic Segmentation, ICCV 2021; as in the public code (Eli-YiLi/PMM). A map
that is low where the object is undistinguished is raised by the coefficient of variation of its values. The dense CRF then
decides for each class alone where it is. Where classes overlap, the one whose share of its own area is larger wins.
"""

from collections.abc import Callable, Sequence

import numpy as np

from imagesets.item import Item
from refiners import crf
from training.stage import Context


def variation(values: np.ndarray, threshold: float, scale: float) -> float:
    """`scale` times the standard deviation of the values above `threshold`, divided by their mean; 0 if none is above.

    Here and in `smoothed`, values are compared in their own precision.
    """
    above = values[values > threshold].astype(np.float64)
    return float(scale * above.std() / (above + 1e-8).mean()) if above.size else 0.0


def smoothed(values: np.ndarray, threshold: float, scale: float) -> np.ndarray:
    """A map [H,W] to the power of 1 - its coefficient of variation; values below `threshold` become 0.

    A coefficient above 1, which the published settings never make, counts as 1: 0 to a power below 0 is infinite.
    """
    kept = np.where(values < threshold, 0, values.astype(np.float32))
    return np.where(kept > 0, kept ** np.float32(max(0.0, 1 - variation(values, threshold, scale))), np.float32(0))


def background(smooth: np.ndarray, alpha: float) -> np.ndarray:
    """The score of everything that is not the class: (1 - smooth)^alpha."""
    return (1 - smooth) ** np.float32(alpha)


def proportional(maps: Sequence[np.ndarray], found: Sequence[np.ndarray], keys: Sequence[int]) -> np.ndarray:
    """A label map uint8 [H,W] from maps [n,H,W], the regions found for them, bool [n,H,W], and the classes `keys` [n].

    A pixel in several regions gets the class with the largest map, divided by 1 + the sum of the map over its region.
    """
    shares = [
        np.where(region, values / (1 + values.sum(where=region)), 0)
        for values, region in zip(np.asarray(maps, np.float32), found, strict=True)
    ]
    nowhere = ~np.any(found, axis=0)
    winner = np.argmax([nowhere.astype(np.float32), *shares], axis=0)
    return np.array([0, *(key + 1 for key in keys)], np.uint8)[winner]


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `ppmg`."""
    settings, parameters = context.settings, crf.Parameters(**context.settings.crf)

    def one(item: Item) -> dict[str, np.ndarray]:
        maps = context.inputs["maps"][item.id]
        if len(maps.keys) == 0:
            return {"label": np.zeros(maps.size, np.uint8)}
        full = maps.full().numpy().astype(np.float16)  # the code stores maps like this, and compares in this precision
        bgr = item.rgb()[..., ::-1]  # the CRF is an approximation, in which the order of channels counts; the code has this one
        raised = [smoothed(values, settings.threshold, settings.smoothing) for values in full]
        scores = [np.stack([background(values, settings.alpha), values]) for values in raised]
        found = [crf.soft(bgr, both, parameters)[1] > 0.5 for both in scores]
        return {"label": proportional(full, found, maps.keys)}

    return one
