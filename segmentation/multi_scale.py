"""One network on an image at several scales: DeepLab trains and tests like this ("MSC"), other segmenters test like this."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor

import torch
from torch.nn import functional

from maps.grids import resize

ROUNDING: Mapping[str, Callable[[float], int]] = {"down": floor, "half up": lambda side: floor(side + 0.5), "half even": round}


@dataclass(frozen=True)
class Resizing:
    """How a public code resizes images by a factor: the mode of interpolation, and how a size times the factor is rounded.

    `rounding` is one of `ROUNDING`. With `by_factor` the places that are read lie 1 / factor apart, whatever the
    rounding did to the size; without it, the ratio of the sizes apart.
    """

    mode: str = "bilinear"
    align_corners: bool = False
    rounding: str = "down"
    by_factor: bool = True

    def __call__(self, images: torch.Tensor, factor: float) -> torch.Tensor:
        """Images [B,3,H,W] at `factor` times their size, a side at least 1; at 1 the images themselves."""
        if factor == 1:
            return images
        exact = [side * factor for side in images.shape[-2:]]
        if self.rounding == "down" and min(exact) >= 1:  # a recording of it holds for any size (segmentation.exporting)
            return functional.interpolate(
                images,
                scale_factor=factor,
                mode=self.mode,
                align_corners=self.align_corners,
                recompute_scale_factor=not self.by_factor,
            )
        size = [max(1, ROUNDING[self.rounding](side)) for side in exact]
        if not self.by_factor:
            return functional.interpolate(images, size, mode=self.mode, align_corners=self.align_corners)
        # functional.interpolate takes a size or a factor; this operator takes both
        operator = getattr(torch.ops.aten, f"upsample_{self.mode}2d")
        return operator(images, size, self.align_corners, factor, factor)  # type: ignore[no-any-return]


def at_scales(
    network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, scales: Sequence[float]
) -> list[torch.Tensor]:
    """The logits [B,L,h_s,w_s] of `images` [B,3,H,W] at each scale, on each scale's own grid.

    Images are resized by the given factor, not by the ratio of the rounded sizes (kazuto1011/deeplab-pytorch).
    """
    resizing = Resizing()
    return [network(resizing(images, scale)) for scale in scales]


def largest(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """The element-wise maximum of [B,L,h_s,w_s], on the grid of the first."""
    return torch.stack([resize(scale, logits[0].shape[-2:]) for scale in logits]).amax(0)
