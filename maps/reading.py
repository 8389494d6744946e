"""Readers: from maps on the network's own grid to maps on the stride-4 grid and at full size.

A stage that writes maps names one in its recipe. Here are those that several methods share; a method's own stands in its
file, made of the same steps: resize every grid, put the scales together, normalise.
"""

from functools import reduce

import torch

from maps.grids import resize, rounded_up
from maps.maps import Maps

EPSILON = 1e-5  # added to a maximum before dividing (IRN code; papers: the maximum alone)


def divided_by_maximum(maps: Maps, full: bool) -> torch.Tensor:
    """The sum over scales, each class divided by its maximum: CAM, ReCAM, LPCAM and AdvCAM, as in IRN's code."""
    return unit_maximum(summed_as_irn(maps, full))


def as_they_are(maps: Maps, full: bool) -> torch.Tensor:
    """Finished maps: the first grid at stride 4, the last at full size, resized where only the other one is kept."""
    return resize(maps.tensors()[-1 if full else 0], maps.extent(full))


def summed(maps: Maps, full: bool) -> torch.Tensor:
    """The sum [m,h,w] over all grids, each resized straight to where it is wanted."""
    return _summed(maps, maps.extent(full))


def summed_as_irn(maps: Maps, full: bool) -> torch.Tensor:
    """The sum [m,h,w] over all grids, at full size by way of the next multiple of 16 and a crop to it."""
    height, width = maps.extent(full)
    return _summed(maps, rounded_up(maps.size) if full else (height, width))[:, :height, :width]


def _summed(maps: Maps, extent: tuple[int, int]) -> torch.Tensor:
    # one scale after the other: all logits of a segmentation network at full size are large
    return reduce(torch.add, (resize(grid, extent) for grid in maps.tensors()))


def unit_maximum(planes: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """Each map of [n,h,w] divided by its own maximum (ReCAM Eq. 2, LPCAM Eq. 1); an all-zero map stays zero."""
    if planes.shape[0] == 0:
        return planes
    peaks = planes.amax(dim=(1, 2), keepdim=True) + epsilon
    return planes / peaks.clamp(min=torch.finfo(planes.dtype).tiny)
