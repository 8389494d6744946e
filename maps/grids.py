"""The grids of maps, and the one function that resizes from one grid to another."""

from collections.abc import Sequence

import torch
from torch.nn import functional


def strided(size: tuple[int, int], stride: int = 4) -> tuple[int, int]:
    """Height and width of a grid over `size` with a cell for every `stride` pixels: ceil(n / stride)."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def rounded_up(size: tuple[int, int]) -> tuple[int, int]:
    """`size` rounded up to multiples of 16: the extent of a stride-16 feature grid."""
    height, width = strided(size, 16)
    return 16 * height, 16 * width


def resize(planes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear resize of [n,h,w] or [B,C,h,w] to `size` (height, width), pixel centres aligned to areas (align_corners=False)."""
    if tuple(planes.shape[-2:]) == tuple(size):
        return planes
    batch = planes[(None,) * (4 - planes.ndim)]
    return functional.interpolate(batch, size=tuple(size), mode="bilinear", align_corners=False).reshape(
        *planes.shape[:-2], *size
    )
