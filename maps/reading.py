"""Readers: from maps on the network's own grid to maps on the stride-4 grid and at full size.

The recipe of a stage that writes maps names its reader. Readers that several methods share are here; a method's own reader is
in the method's file. All have the same steps: resize every grid, combine the scales, normalise.
"""

from functools import reduce

import torch

from maps.grids import resize, rounded_up
from maps.maps import Maps

EPSILON = 1e-5  # added to a maximum before a division by it (IRN code; papers: the maximum alone)


def divided_by_maximum(maps: Maps, full: bool) -> torch.Tensor:
    """The sum over scales, each class divided by its maximum: CAM, ReCAM, LPCAM and AdvCAM, as in IRN's code."""
    return unit_maximum(summed_as_irn(maps, full))


def as_they_are(maps: Maps, full: bool) -> torch.Tensor:
    """Finished maps: the first grid at stride 4, the last at full size; a single grid is resized to the other size."""
    return resize(maps.tensors()[-1 if full else 0], maps.extent(full))


def summed(maps: Maps, full: bool) -> torch.Tensor:
    """The sum [m,h,w] over all grids, each resized straight to the wanted grid."""
    return _summed(maps, maps.extent(full))


def summed_as_irn(maps: Maps, full: bool) -> torch.Tensor:
    """The sum [m,h,w] over all grids; at full size each is resized to the next multiples of 16 and cropped."""
    height, width = maps.extent(full)
    return _summed(maps, rounded_up(maps.size) if full else (height, width))[:, :height, :width]


def _summed(maps: Maps, extent: tuple[int, int]) -> torch.Tensor:
    # one scale after the other: all logits of a segmentation network at full size are large
    return reduce(torch.add, (resize(grid, extent) for grid in maps.tensors()))


def unit_maximum(planes: torch.Tensor, epsilon: float = EPSILON, detached: bool = False) -> torch.Tensor:
    """Each map of [..,h,w] divided by its own maximum (ReCAM Eq. 2, LPCAM Eq. 1); an all-zero map stays zero.

    With `detached` the maximum is a constant.
    """
    peaks = (planes.detach() if detached else planes).amax(dim=(-2, -1), keepdim=True) + epsilon
    return planes / peaks.clamp(min=torch.finfo(planes.dtype).tiny)


def unit_range(planes: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """Each map of [..,h,w] from 0 at its minimum to about 1 at its maximum; `epsilon` is added to the range."""
    low, high = planes.amin(dim=(-2, -1), keepdim=True), planes.amax(dim=(-2, -1), keepdim=True)
    return (planes - low) / (high - low + epsilon)
