"""Random colours of training images: a `Recolour` changes an RGB image uint8 [H,W,3]."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageEnhance

Recolour = Callable[[np.ndarray, np.random.Generator], np.ndarray]
HUES = 180  # OpenCV's hues are degrees / 2
SHIFT = 10  # the most that SEAM's segmenter adds to hue, saturation and value


def shifted(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hue, saturation and value, each plus a whole number within 10 (SEAM's segmenter, HFPL)."""
    return with_shift(rgb, rng.integers(-SHIFT, SHIFT, 3, endpoint=True))


def with_shift(rgb: np.ndarray, shift: Sequence[int] | np.ndarray) -> np.ndarray:
    """The image with `shift` added to OpenCV's hue (which goes round), saturation and value (which are clipped)."""
    hsv = _hsv(rgb).astype(np.int16) + np.asarray(shift, np.int16)
    hsv[..., 0] %= HUES
    return _rgb(hsv.clip(0, 255).astype(np.uint8))


def distorted(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """mmsegmentation's photometric distortion; each part happens to half of the images.

    Brightness +-32, contrast 0.5-1.5, saturation 0.5-1.5, hue +-18 (of 180); contrast comes before or after saturation and hue.
    """
    chosen, late = rng.random(4) < 0.5, rng.random() < 0.5
    brightness, contrast, saturation = rng.uniform(-32, 32), rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5)
    hue = int(rng.integers(-18, 18))
    if chosen[0]:
        rgb = _linear(rgb, 1.0, brightness)
    if chosen[1] and not late:
        rgb = _linear(rgb, contrast, 0.0)
    hsv = _hsv(rgb)
    if chosen[2]:
        hsv[..., 1] = _linear(hsv[..., 1], saturation, 0.0)
    if chosen[3]:
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + hue) % HUES
    rgb = _rgb(hsv)
    return _linear(rgb, contrast, 0.0) if chosen[1] and late else rgb


def jittered(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation by factors in 0.7-1.3 and hue by +-0.1 of the circle, in any order.

    RecurSeed names the jitter; its numbers are those of PuzzleCAM, whose code it continues.
    """
    image = Image.fromarray(rgb)
    factors = rng.uniform(0.7, 1.3, 3)
    hue = round(rng.uniform(-0.1, 0.1) * HUES)
    for part in rng.permutation(4):
        if part == 3:
            image = Image.fromarray(with_shift(np.asarray(image), (hue, 0, 0)))
        else:
            image = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[part](image).enhance(factors[part])
    return np.asarray(image)


RULES: Mapping[str, Recolour | None] = {"none": None, "hsv": shifted, "photometric": distorted, "jitter": jittered}


def recoloured(rgb: np.ndarray, rule: str, rng: np.random.Generator) -> np.ndarray:
    """The image uint8 [H,W,3] in random colours by a rule of `RULES`."""
    recolour = RULES[rule]
    return rgb if recolour is None else recolour(np.ascontiguousarray(rgb), rng)


def _linear(values: np.ndarray, factor: float, summand: float) -> np.ndarray:
    return (values.astype(np.float32) * factor + summand).clip(0, 255).astype(np.uint8)


def _hsv(rgb: np.ndarray) -> np.ndarray:
    import cv2  # only processes that train such a network need it

    return cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)


def _rgb(hsv: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
