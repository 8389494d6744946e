"""Maps: one float map per class present in an image, as a method delivers them and refiners and scores read them.

Linear maps (CAM, ReCAM, LPCAM, AdvCAM) are kept per scale on the feature grid, in half precision, and every larger map is
one pure function of those: resize, sum over scales, divide by the maximum. Maps that are not linear in what the
network gives (AMN: softmax and min-max per pixel) are kept at the two sizes the field uses.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

EPSILON = 1e-5  # added to a maximum before dividing, so that an all-zero map stays zero (IRN code; papers: the maximum alone)


def strided(size: tuple[int, int], stride: int = 4) -> tuple[int, int]:
    """Height and width of a stride-4 grid over `size`: ceil(n / 4)."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def rounded_up(size: tuple[int, int], stride: int = 16) -> tuple[int, int]:
    """`size` rounded up to multiples of 16, the extent that a stride-16 feature grid covers."""
    return ((size[0] - 1) // stride + 1) * stride, ((size[1] - 1) // stride + 1) * stride


def resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear resize of [n,h,w] to [n,*size], pixel centres aligned to areas (align_corners=False)."""
    return functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def normalise(maps: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """Divide each map of [n,h,w] by its own maximum (ReCAM Eq. 2, LPCAM Eq. 1)."""
    if maps.shape[0] == 0:
        return maps
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + epsilon)


def sum_scales(grids: list[torch.Tensor], size: tuple[int, int], full: bool) -> torch.Tensor:
    """Sum per-scale maps [n,h_r,w_r] on the stride-4 grid, or at full `size` by way of the next multiple of 16, unnormalised."""
    if full:
        return torch.stack([resize(grid, rounded_up(size)) for grid in grids]).sum(0)[:, : size[0], : size[1]]
    return torch.stack([resize(grid, strided(size)) for grid in grids]).sum(0)


@dataclass(frozen=True)
class Maps:
    """Maps of one image: `keys` [n] 0-based class indices, `size` (H,W) of the image, and `grids`.

    `linear`: grids are one [n,h_r,w_r] per scale. Otherwise grids are the finished pair (stride-4 [n,H/4,W/4],
    full [n,H,W]).
    """

    keys: np.ndarray
    size: tuple[int, int]
    grids: tuple[np.ndarray, ...]
    linear: bool = True

    def strided(self) -> torch.Tensor:
        """float32 [n,ceil(H/4),ceil(W/4)], each linear map divided by its maximum."""
        return self._at(full=False)

    def full(self) -> torch.Tensor:
        """float32 [n,H,W], each linear map divided by its maximum."""
        return self._at(full=True)

    def _at(self, full: bool) -> torch.Tensor:
        grids = [torch.from_numpy(np.asarray(grid, np.float32)) for grid in self.grids]
        if not self.linear:
            return grids[1] if full else grids[0]
        if len(self.keys) == 0:
            return torch.zeros((0, *(self.size if full else strided(self.size))))
        return normalise(sum_scales(grids, self.size, full))

    def arrays(self) -> dict[str, np.ndarray]:
        """What the store keeps: the grids in half precision, scaled per class so that no value under- or overflows."""
        grids = [np.asarray(grid, np.float32) for grid in self.grids]
        if self.linear and len(self.keys):
            # one factor per class over all scales: the later division by the maximum removes it
            peak = np.max([np.abs(grid).max(axis=(1, 2)) for grid in grids], axis=0)
            grids = [grid / np.maximum(peak, 1e-20)[:, None, None] for grid in grids]
        kept = {f"grid{index}": grid.astype(np.float16) for index, grid in enumerate(grids)}
        return {"keys": np.asarray(self.keys, np.int64), "size": np.asarray(self.size), "linear": np.asarray(self.linear), **kept}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "Maps":
        """The inverse of `arrays`, up to half precision."""
        grids = tuple(arrays[f"grid{index}"] for index in range(sum(name.startswith("grid") for name in arrays)))
        height, width = (int(side) for side in arrays["size"])
        return cls(arrays["keys"], (height, width), grids, bool(arrays["linear"]))
