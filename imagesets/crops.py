"""Training crops: one random draw of size, window and mirror, for an image and its pixel-by-pixel planes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagesets.item import VOID
from imagesets.transforms import normalise, rescale, scaled

Size = tuple[int, int]  # height, width
Window = tuple[slice, slice]  # rows, columns
Box = tuple[int, int, int, int]  # top, left, bottom, right, in pixels


def by_long_side(size: Size, bounds: Sequence[int], rng: np.random.Generator) -> Size:
    """The size of an image whose long side becomes a whole number within `bounds` (both included)."""
    return scaled(size, int(rng.integers(bounds[0], bounds[1], endpoint=True)) / max(size))


def by_scale(size: Size, bounds: Sequence[float], rng: np.random.Generator) -> Size:
    """The size of an image times a factor in [low, high)."""
    return scaled(size, rng.uniform(bounds[0], bounds[1]))


def by_factor(size: Size, factor: float) -> Size:
    """The size of an image times a factor, rounded down (deeplab-pytorch)."""
    return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))


@dataclass(frozen=True)
class Crop:
    """A square training crop: the part `inside` of an image of size `size` is put at `within` in a canvas of `side`.

    An image and its planes go through the same crop, each with its own resampling and fill.
    """

    size: Size
    inside: Window
    within: Window
    side: int
    mirror: bool

    @classmethod
    def drawn(
        cls, size: Size, side: int, rng: np.random.Generator, top_left: bool = False, mirrors_canvas: bool = False
    ) -> "Crop":
        """A random crop of an image that is rescaled to `size`.

        Along a side longer than the canvas, the window is uniform in the image. Along a shorter side, the image has a uniform
        offset in the canvas, or with `top_left` none. Half of all crops are mirrored, with `mirrors_canvas` as whole canvases: an
        image at the left goes to the right.
        """
        (rows, canvas_rows), (columns, canvas_columns) = (_slices(extent, side, rng, top_left) for extent in size)
        mirror = bool(rng.random() < 0.5)
        if mirrors_canvas and mirror:
            canvas_columns = slice(side - canvas_columns.stop, side - canvas_columns.start)
        return cls(size, (rows, columns), (canvas_rows, canvas_columns), side, mirror)

    def image(self, rgb: np.ndarray) -> np.ndarray:
        """An image uint8 [H,W,3] to RGBA uint8 [4,side,side], transparent (A = 0) around it.

        `training.transfer` normalises it on the device; what is transparent becomes 0, the mean colour.
        """
        canvas = np.zeros((4, self.side, self.side), np.uint8)
        canvas[(slice(3), *self.within)] = self.seen(rescale(rgb, self.size)).transpose(2, 0, 1)
        canvas[(3, *self.within)] = 255
        return canvas

    def normalised(self, seen: np.ndarray) -> np.ndarray:
        """What is `seen` of an image, uint8 or float32, to normalised float32 [3,side,side]; around it is 0, the mean colour."""
        canvas = np.zeros((3, self.side, self.side), np.float32)
        canvas[(slice(None), *self.within)] = normalise(seen)
        return canvas

    def label(self, label: np.ndarray) -> np.ndarray:
        """A label map uint8 [H,W], resized by nearest neighbour, to uint8 [side,side]; around it is void."""
        return self.plane(label, fill=VOID)

    def plane(self, plane: np.ndarray, fill: float, bicubic: bool = False) -> np.ndarray:
        """Any plane [H,W], uint8 or float32, to [side,side] of the same type: a saliency map, a teacher's mask."""
        canvas = np.full((self.side, self.side), fill, plane.dtype)
        canvas[self.within] = self.seen(rescale(plane, self.size, bicubic))
        return canvas

    def covered(self) -> np.ndarray:
        """Where the image lies in the canvas, bool [side,side]."""
        canvas = np.zeros((self.side, self.side), bool)
        canvas[self.within] = True
        return canvas

    def seen(self, resized: np.ndarray) -> np.ndarray:
        """The part of an image or plane of size `size` that the crop shows, mirrored if the crop is: a view."""
        window = resized[self.inside]
        return window[:, ::-1] if self.mirror else window


def _slices(extent: int, side: int, rng: np.random.Generator, top_left: bool) -> tuple[slice, slice]:
    """The slice of an extent that a crop of `side` sees, and the slice of the canvas where it lies."""
    offset = 0 if top_left and extent < side else int(rng.integers(abs(extent - side), endpoint=True))
    seen = min(extent, side)
    inside, within = (offset, 0) if extent > side else (0, offset)
    return slice(inside, inside + seen), slice(within, within + seen)
