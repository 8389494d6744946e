"""The objects of CDA (`methods.cda`): how they are cut out, changed and put on a canvas, as functions on tensors."""

from collections.abc import Sequence
from math import ceil, cos, floor, radians, sin
from typing import NamedTuple

import torch
from torch.nn import functional

LARGEST = 0.7  # of the height and width that an object may have where it is pasted


class Pose(NamedTuple):
    """How objects are changed: turned by up to `angle` degrees, shrunk to fit, scaled within `scales`, put at a random place."""

    angle: int
    scales: Sequence[float]

    def __call__(
        self, cut: torch.Tensor, label: torch.Tensor, canvas: Sequence[int], draws: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """An object as `posed` takes it on a canvas as `on_canvas` gives it; `draws` are four numbers in [0, 1)."""
        angle = floor(draws[0] * (2 * self.angle + 1)) - self.angle
        low, high = self.scales
        cut, label = posed(cut, label, canvas, angle, low + draws[1] * (high - low))
        place = [int(draw * (side - own + 1)) for draw, side, own in zip(draws[2:], canvas, label.shape, strict=True)]
        return on_canvas(cut, label, canvas, place)


def posed(
    cut: torch.Tensor, label: torch.Tensor, canvas: Sequence[int], angle: float, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """An object turned by `angle` degrees, shrunk to 0.7 of the canvas (height, width) if it is larger, and scaled.

    `cut` is [3,h,w] and `label` [h,w], 0 where no object is; both are uint8 (as in files) or floating. As in the code both are
    resized bilinearly, so the rim of the label grows.
    """
    if angle:
        cut, label = turned(cut, angle, "bilinear"), turned(label[None], angle, "nearest")[0]
    size = fitted(label.shape, canvas, scale)
    cut, label = (
        functional.interpolate(planes[None], size=size, mode="bilinear", antialias=True)[0] for planes in (cut, label[None])
    )
    return cut, label[0]


def turned(planes: torch.Tensor, angle: float, mode: str) -> torch.Tensor:
    """Planes [C,h,w] turned counter-clockwise by `angle` degrees on a canvas that holds all of them; 0 around them."""
    (height, width), (along, across) = planes.shape[1:], (cos(radians(angle)), sin(radians(angle)))
    rows, columns = (ceil(abs(a * along) + abs(b * across) - 1e-6) for a, b in ((height, width), (width, height)))
    # from the coordinates of the new canvas (x, y from -1 to 1) to those of the old one
    back = [[along * columns / width, -across * rows / width, 0], [across * columns / height, along * rows / height, 0]]
    grid = functional.affine_grid(torch.tensor([back], device=planes.device), [1, 1, rows, columns], align_corners=False)
    found = functional.grid_sample(planes[None].float(), grid, mode=mode, align_corners=False)[0]
    return found if planes.is_floating_point() else found.round().to(planes.dtype)


def fitted(size: Sequence[int], canvas: Sequence[int], scale: float) -> list[int]:
    """Height and width of an object of `size`: at most 0.7 of the canvas's, times `scale`, rounded down as in the code.

    It is at least two pixels high and wide: torch 2.15 resizes to one column wrongly, and to one pixel not at all.
    """
    height, width, shape = float(size[0]), float(size[1]), size[1] / size[0]
    if height > LARGEST * canvas[0]:
        height, width = LARGEST * canvas[0], LARGEST * canvas[0] * shape
    if width > LARGEST * canvas[1]:
        height, width = LARGEST * canvas[1] / shape, LARGEST * canvas[1]
    return [max(2, int(height * scale)), max(2, int(width * scale))]


def on_canvas(
    cut: torch.Tensor, label: torch.Tensor, canvas: Sequence[int], place: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """An object [3,h,w] and its label [h,w] with its corner at `place` (row, column): [3,H,W], and where it lies, bool [H,W]."""
    where = (slice(place[0], place[0] + label.shape[0]), slice(place[1], place[1] + label.shape[1]))
    image, mask = cut.new_zeros(3, *canvas), torch.zeros(*canvas, dtype=torch.bool, device=cut.device)
    image[(slice(None), *where)] = cut
    mask[where] = label >= 0.5  # an object has the label 1 at least
    return image, mask


def tight(planes: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Planes [C,H,W] and a label [H,W] cut to where the label is not 0, which must be somewhere."""
    where = tuple(slice(int(places[0]), int(places[-1]) + 1) for places in (label.any(dim=1 - axis).nonzero() for axis in (0, 1)))
    return planes[(slice(None), *where)], label[where]
