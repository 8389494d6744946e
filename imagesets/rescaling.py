"""Random sizes of training images: a `Rescale` resizes an image uint8 [H,W,3] and its label map uint8 [H,W] as one code does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imagesets.crops import Size, by_factor
from imagesets.transforms import bilinear, rescale

Rescale = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class OneOf:
    """One of a few scales: the image as floats bilinearly, the label map at pixel centres (deeplab-pytorch)."""

    scales: Sequence[float]

    def __call__(self, rgb: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        size = by_factor(label.shape, float(rng.choice(self.scales)))
        return bilinear(rgb, size), rescale(label, size, bicubic=False)


@dataclass(frozen=True)
class Between:
    """A scale in [low, high): OpenCV's bicubic and nearest neighbour by the factor itself (SEAM's segmenter, HFPL)."""

    scales: Sequence[float]

    def __call__(self, rgb: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2  # only processes that train such a network need it

        factor = rng.uniform(self.scales[0], self.scales[1])
        factor = max(factor, 1 / min(label.shape))  # at least one pixel
        image = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        return image, cv2.resize(label, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


@dataclass(frozen=True)
class Fitted:
    """The largest size within `fit` (long, short side) times a scale in [low, high): OpenCV's bilinear (mmsegmentation)."""

    fit: Sequence[int]
    scales: Sequence[float]

    def __call__(self, rgb: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        height, width = fitted(label.shape, self.fit, rng.uniform(self.scales[0], self.scales[1]))
        image = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
        return image, cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)


def fitted(size: Sequence[int], fit: Sequence[int], scale: float = 1.0) -> Size:
    """An image's size times `fit_factor` and a scale, rounded up at a half (mmcv)."""
    factor = fit_factor(size, fit) * scale
    return int(size[0] * factor + 0.5) or 1, int(size[1] * factor + 0.5) or 1


def fit_factor(size: Sequence[int], fit: Sequence[int]) -> float:
    """The factor that gives an image of `size` the largest size within `fit` (long, short side); 1 if `fit` is [0, 0]."""
    return min(fit[0] / max(size), fit[1] / min(size)) if all(fit) else 1.0
