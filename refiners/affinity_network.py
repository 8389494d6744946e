"""AffinityNet (Ahn & Kwak, CVPR 2018): feature vectors of cells, whose differences are affinities, from a backbone's last taps.

Layers have the names of the public code. There the taps are ResNet-38's conv4, conv5 and conv6, all at stride 8. Of any other
backbone they are the last three, or fewer, enlarged to stride 8.
"""

import torch
from torch import nn
from torch.nn import functional

from backbones import Backbone
from backbones.precision import MixedPrecision
from maps.grids import strided
from refiners.irnet import upsample

CELL = 8  # pixels per cell of the grid, in each direction
WIDTHS = {"f8_3": 64, "f8_4": 128, "f8_5": 256}  # channels of each tap's projection


class AffinityNet(nn.Module):
    """Feature vectors u [B,C,ceil(H/8),ceil(W/8)] of normalised images [B,3,H,W]; C is 448 with three taps."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Head(backbone.channels[-len(WIDTHS) :])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        grid = strided((height, width), CELL)
        return self.head(*(upsample(tap, grid) for tap in self.backbone(images)[-len(WIDTHS) :]))


class Head(MixedPrecision):
    """A bias-free 1x1 convolution of each tap, then one of all together; an ELU after each. Taps [B,channels[i],h,w]."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.names = list(WIDTHS)[-len(channels) :]
        for name, inputs in zip(self.names, channels, strict=True):
            self.add_module(name, nn.Conv2d(inputs, WIDTHS[name], 1, bias=False))
            nn.init.kaiming_normal_(getattr(self, name).weight)
        joined = sum(WIDTHS[name] for name in self.names)
        self.f9 = nn.Conv2d(joined, joined, 1, bias=False)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(self, *taps: torch.Tensor) -> torch.Tensor:
        projected = [functional.elu(getattr(self, name)(tap)) for name, tap in zip(self.names, taps, strict=True)]
        return functional.elu(self.f9(torch.cat(projected, dim=1)))
