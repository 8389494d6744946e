"""One network on an image at several scales: DeepLab trains and tests like this ("MSC"), other segmenters test like this."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from maps.grids import resize


def at_scales(
    network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, scales: Sequence[float]
) -> list[torch.Tensor]:
    """The logits [B,L,h_s,w_s] of `images` [B,3,H,W] at each scale, on each scale's own grid.

    Images are resized by the given factor, not by the ratio of the rounded sizes (kazuto1011/deeplab-pytorch).
    """
    return [network(at_scale(images, scale)) for scale in scales]


def largest(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """The element-wise maximum of [B,L,h_s,w_s], on the grid of the first."""
    return torch.stack([resize(scale, logits[0].shape[-2:]) for scale in logits]).amax(0)


def at_scale(images: torch.Tensor, scale: float, mode: str = "bilinear", align_corners: bool = False) -> torch.Tensor:
    """Images [B,3,H,W] resized by a factor, sizes rounded down to at least one pixel; at scale 1 the images themselves."""
    if scale == 1:
        return images
    # a recording (segmentation.exporting) holds for any size, so it must not depend on the size of its example
    if not torch.jit.is_tracing() and min(images.shape[-2:]) * scale < 1:
        size = [max(1, int(side * scale)) for side in images.shape[-2:]]
        return functional.interpolate(images, size, mode=mode, align_corners=align_corners)
    return functional.interpolate(images, scale_factor=scale, mode=mode, align_corners=align_corners)
