"""EfficientNet-Lite0 (Tan and Le, EfficientNet, ICML 2019, in the form for small devices): timm's network with taps."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import nn

from backbones.backbone import Backbone, Dilated, Options, limit_stride
from backbones.half import ToHalf
from backbones.vision_models import timm_network


class EfficientNetLite(Backbone):
    """Taps after both blocks of stage 1 at /4, stage 2 at /8, stage 4 at /16 and the last, 1280-channel convolution.

    Its weights expect images of mean and deviation 0.5, so normalised images are shifted to those first. Borders are filled up
    as in TensorFlow, where the weights come from. The last tap ends in a ReLU6 and is therefore non-negative.
    """

    channels = (24, 24, 40, 112, 1280)
    imagenet = "timm:tf_efficientnet_lite0"

    def __init__(self, *, stride: int, dilated: Dilated, frozen_statistics: bool) -> None:
        super().__init__(frozen_statistics)
        self.strides = (4, 4, 8, min(16, stride), stride)
        self.to_half = ToHalf()
        whole = timm_network("tf_efficientnet_lite0")
        self.conv_stem, self.bn1, self.blocks = whole.conv_stem, whole.bn1, whole.blocks
        self.conv_head, self.bn2 = whole.conv_head, whole.bn2
        limit_stride({16: self.blocks[3:5], 32: self.blocks[5:]}, stride, dilated)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.bn1(self.conv_stem(self.to_half(images)))
        x1 = self.blocks[1][0](self.blocks[0](features))
        x2 = self.blocks[1][1](x1)
        x3 = self.blocks[2](x2)
        x4 = self.blocks[3:5](x3)
        return x1, x2, x3, x4, self.bn2(self.conv_head(self.blocks[5:](x4)))

    def drop_last_rectifier(self) -> None:
        self.bn2.act = nn.Identity()

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """The parts, which have the names of a ResNet's parts at the same strides."""
        first, second, third, *others = self.blocks
        return {
            "stem": [self.conv_stem, self.bn1],
            "layer1": [first, second],
            "layer2": [third],
            "layer3": others[:2],
            "layer4": [*others[2:], self.conv_head, self.bn2],
        }


def efficientnet_lite0(**options: Unpack[Options]) -> EfficientNetLite:
    """EfficientNet-Lite0."""
    return EfficientNetLite(**options)
