"""The fully supervised reference: a segmenter trained on the official masks instead of pseudo masks."""

from collections.abc import Callable

import numpy as np

from imagesets.item import Item
from training.stage import Context


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The unchanged official mask of each training image, {"label": uint8 [H,W]}, 255 for void."""
    return lambda item: {"label": item.truth()}
