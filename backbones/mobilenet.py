"""MobileNetV2 (Sandler et al., CVPR 2018): torchvision's `features` with taps; for machines without a GPU."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import nn

from backbones.backbone import Backbone, Dilated, Options, limit_stride
from backbones.vision_models import models

# index of the last block of each tap in torchvision's `features`
_TAPS = (2, 3, 6, 13, 18)


class MobileNetV2(Backbone):
    """Taps after blocks 2 (x1) and 3 (x2) at /4, 6 (x3) at /8, 13 (x4) at /16 and the last, 1280-channel convolution (x5).

    x5 ends in a ReLU6 and is therefore non-negative; x1 to x4 are linear bottlenecks and are not.
    """

    channels = (24, 24, 32, 96, 1280)
    imagenet = "torchvision:mobilenet_v2"

    def __init__(self, *, stride: int, dilated: Dilated, frozen_statistics: bool) -> None:
        super().__init__(frozen_statistics)
        self.strides = (4, 4, 8, min(16, stride), stride)
        self.features = models.mobilenet_v2(weights=None).features
        limit_stride({16: self.features[7:14], 32: self.features[14:]}, stride, dilated)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        taps = []
        for index, block in enumerate(self.features):
            images = block(images)
            if index in _TAPS:
                taps.append(images)
        return tuple(taps)

    def drop_last_rectifier(self) -> None:
        self.features[-1][2] = nn.Identity()

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """The parts, which have the names of a ResNet's parts at the same strides."""
        starts = {"stem": (0, 1), "layer1": (1, 4), "layer2": (4, 7), "layer3": (7, 14), "layer4": (14, 19)}
        return {name: list(self.features[start:end]) for name, (start, end) in starts.items()}


def mobilenetv2(**options: Unpack[Options]) -> MobileNetV2:
    """MobileNetV2 of width 1."""
    return MobileNetV2(**options)
