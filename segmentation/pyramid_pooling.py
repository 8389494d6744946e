"""Pyramid pooling (Zhao et al., Pyramid Scene Parsing Network, CVPR 2017) as mmsegmentation has it, for PSPNet and UperNet."""

from collections.abc import Sequence

import torch
from torch import nn

from maps.grids import resize
from segmentation.segmenter import convolution


class PyramidPooling(nn.Module):
    """Means of the features over grids of `cells` x `cells`, each through a 1x1 convolution, beside the features themselves.

    A 3x3 convolution merges them into `width` channels.
    """

    def __init__(self, inputs: int, width: int, cells: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(side), *convolution(inputs, width, 1)) for side in cells)
        self.merge = convolution(inputs + len(cells) * width, width, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B,inputs,h,w] to [B,width,h,w]."""
        return self.merge(torch.cat([features, *self.pooled(features)], dim=1))

    def pooled(self, features: torch.Tensor) -> list[torch.Tensor]:
        """The means of each grid, [B,width,h,w], enlarged to that of the features."""
        return [resize(pool(features), features.shape[-2:]) for pool in self.pools]
