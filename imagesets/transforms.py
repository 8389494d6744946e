"""Rescales and normalises images. `imagesets.views` has views at several scales, `imagesets.crops` random crops.

Images are RGB uint8 [H,W,3]; label maps are uint8 [H,W]; results are NumPy float32 in torch's channel order.
The rules are those of the public IRN code: Pillow's bicubic on uint8 (antialiased when shrinking, so a plain tensor interpolation
differs), nearest neighbour for labels, sizes rounded half to even.
"""

import numpy as np
from PIL import Image

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in 0..1
STANDARD_DEVIATION = (0.229, 0.224, 0.225)


def normalise(rgb: np.ndarray) -> np.ndarray:
    """(x / 255 - mean) / standard deviation per channel: uint8 or float32 [H,W,3] in 0..255 -> float32 [3,H,W]."""
    result = np.empty((3, *rgb.shape[:2]), np.float32)
    for channel, (mean, deviation) in enumerate(zip(MEAN, STANDARD_DEVIATION, strict=True)):
        # one multiplication from uint8 straight into the result is ten times faster than a float copy of the image
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


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 [H,W,3] to (height, width) as OpenCV resizes floats, without antialiasing (deeplab-pytorch): float32."""
    import cv2  # only processes that train such a network need it

    return cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


def top_left_crop(array: np.ndarray, crop: int, fill: float) -> np.ndarray:
    """The top left square of [...,H,W], filled up to the right and below: -> [...,crop,crop]."""
    canvas = np.full((*array.shape[:-2], crop, crop), fill, array.dtype)
    height, width = min(crop, array.shape[-2]), min(crop, array.shape[-1])
    canvas[..., :height, :width] = array[..., :height, :width]
    return canvas
