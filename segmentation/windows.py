"""Windows of images that are too large for a network at once: each overlaps its neighbours, and only its middle counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

MARGIN = 8  # a window overlaps its neighbours by at least twice a side divided by this


@dataclass(frozen=True)
class Window:
    """`seen` is what the network gets of the image, `kept` the part of the image that counts; both are (rows, columns).

    The kept parts of an image's windows cover it without overlap.
    """

    seen: tuple[slice, slice]
    kept: tuple[slice, slice]

    @property
    def inside(self) -> tuple[slice, slice]:
        """The kept part in the coordinates of the window."""
        rows, columns = (
            slice(kept.start - seen.start, kept.stop - seen.start) for seen, kept in zip(self.seen, self.kept, strict=True)
        )
        return rows, columns


def windows(size: Sequence[int], side: int) -> list[Window]:
    """The windows of at most `side` pixels a side of an image of `size` (height, width), row by row."""
    return [Window((y, x), (top, left)) for (y, top), (x, left) in product(*(_along(length, side) for length in size[:2]))]


def in_windows(rgb: np.ndarray, side: int, of_window: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`of_window` makes an array [...,h,w] of each window uint8 [h,w,3] of an image; the kept parts together are [...,H,W]."""
    whole: np.ndarray | None = None
    for window in windows(rgb.shape, side):
        made = of_window(np.ascontiguousarray(rgb[window.seen]))
        if whole is None:
            whole = np.empty((*made.shape[:-2], *rgb.shape[:2]), made.dtype)
        whole[..., *window.kept] = made[..., *window.inside]
    assert whole is not None  # every image has a window
    return whole


def _along(length: int, side: int) -> list[tuple[slice, slice]]:
    """What is seen and what is kept along one axis: equal steps, and cuts in the middle of each overlap."""
    if length <= side:
        return [(slice(0, length), slice(0, length))]
    overlap = 2 * (side // MARGIN)
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(place * (length - side) / (count - 1)) for place in range(count)]
    cuts = [0, *((first + side + second) // 2 for first, second in pairwise(starts)), length]
    return [(slice(start, start + side), slice(*cut)) for start, cut in zip(starts, pairwise(cuts), strict=True)]
