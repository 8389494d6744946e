"""The fully supervised reference: a segmenter trained on the official masks in place of pseudo masks."""

from collections.abc import Callable

import numpy as np

from imagesets.item import Item
from training.stage import Context


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The official mask of each training image as it is, {"label": uint8 [H,W]}, 255 for void."""
    return lambda item: {"label": item.truth()}
