"""From an image to a network's input: rescale, normalise, crop, mirror.

Images are RGB uint8 [H,W,3]; label maps are uint8 [H,W]; results are NumPy float32 in torch's channel order. Every random
draw comes from the `rng` passed in. Rules of the public IRN code: Pillow bicubic on uint8 (antialiased when
shrinking; a plain tensor interpolation is not equivalent), nearest for labels, sizes rounded half to even.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from imagesets.item import VOID

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in 0..1
STANDARD_DEVIATION = (0.229, 0.224, 0.225)


def normalise(rgb: np.ndarray) -> np.ndarray:
    """(x / 255 - mean) / standard deviation per channel: uint8 [H,W,3] -> float32 [3,H,W]."""
    result = np.empty((3, *rgb.shape[:2]), np.float32)
    for channel, (mean, deviation) in enumerate(zip(MEAN, STANDARD_DEVIATION, strict=True)):
        # one multiplication from uint8 straight into the result: ten times faster than a float copy of the whole image
        np.multiply(rgb[..., channel], np.float32(1 / (255 * deviation)), out=result[channel])
        result[channel] -= np.float32(mean / deviation)
    return result


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width times `scale`, rounded half to even and at least 1 (375 * 0.5 -> 188, 375 * 1.5 -> 562)."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def rescale(image: np.ndarray, target: float | tuple[int, int], bicubic: bool = True) -> np.ndarray:
    """Resize uint8 [H,W,3] or [H,W] by a factor or to (height, width); `bicubic=False` is nearest, the only rule for labels."""
    height, width = target if isinstance(target, tuple) else scaled(image.shape[:2], target)
    if (height, width) == image.shape[:2]:
        return image
    rule = Image.Resampling.BICUBIC if bicubic else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((width, height), rule))


def views(rgb: np.ndarray, scales: Sequence[float]) -> list[np.ndarray]:
    """Test-time views: per scale the normalised image and its mirror, float32 [2,3,h,w]; scale 1 is the image untouched."""
    images = [normalise(rescale(rgb, scale)) for scale in scales]
    return [np.stack([image, image[..., ::-1]]) for image in images]


def top_left_crop(array: np.ndarray, crop: int, fill: float) -> np.ndarray:
    """The top left square of [...,H,W], filled up to the right and below: -> [...,crop,crop]."""
    canvas = np.full((*array.shape[:-2], crop, crop), fill, array.dtype)
    height, width = min(crop, array.shape[-2]), min(crop, array.shape[-1])
    canvas[..., :height, :width] = array[..., :height, :width]
    return canvas


def classification_sample(rgb: np.ndarray, long_side: Sequence[int], crop: int, rng: np.random.Generator) -> np.ndarray:
    """Training example of a classifier: random long side (both ends of the range included), mirror, crop.

    Returns float32 [3,crop,crop]; what the image does not cover is 0, the mean colour.
    """
    side = int(rng.integers(long_side[0], long_side[1], endpoint=True))
    image = rescale(rgb, side / max(rgb.shape[:2]))
    windows = crop_windows(image.shape[:2], crop, rng)
    mirror = bool(rng.random() < 0.5)
    return _place_image(image, windows, crop, mirror)


def segmentation_sample(
    rgb: np.ndarray, label: np.ndarray, scale_range: Sequence[float], crop: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Training example of a dense network: random scale in [low, high), joint mirror and crop.

    Returns float32 [3,crop,crop] filled up with 0 and the label map uint8 [crop,crop] filled up with 255.
    """
    size = scaled(rgb.shape[:2], rng.uniform(scale_range[0], scale_range[1]))
    image, label = rescale(rgb, size), rescale(label, size, bicubic=False)
    windows = crop_windows(size, crop, rng)
    mirror = bool(rng.random() < 0.5)
    canvas = np.full((crop, crop), VOID, np.uint8)
    canvas[windows[1]] = _mirrored(label[windows[0]], mirror)
    return _place_image(image, windows, crop, mirror), canvas


Window = tuple[slice, slice]


def crop_windows(size: tuple[int, int], crop: int, rng: np.random.Generator) -> tuple[Window, Window]:
    """A random square crop as (rows, columns) in the image and where they lie in the canvas.

    Along a longer side the window is uniform in the image; along a shorter one the image is at a uniform offset in the canvas.
    """
    pairs = [_crop_slices(side, crop, rng) for side in size]
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def _crop_slices(side: int, crop: int, rng: np.random.Generator) -> tuple[slice, slice]:
    offset = int(rng.integers(abs(side - crop), endpoint=True))
    extent = min(side, crop)
    in_image, in_canvas = (offset, 0) if side > crop else (0, offset)
    return slice(in_image, in_image + extent), slice(in_canvas, in_canvas + extent)


def _place_image(image: np.ndarray, windows: tuple[Window, Window], crop: int, mirror: bool) -> np.ndarray:
    # normalising works pixel by pixel, so it may wait until the crop has thrown most pixels away
    canvas = np.zeros((3, crop, crop), np.float32)
    canvas[(slice(None), *windows[1])] = normalise(_mirrored(image[windows[0]], mirror))
    return canvas


def _mirrored(image: np.ndarray, mirror: bool) -> np.ndarray:
    return image[:, ::-1] if mirror else image
