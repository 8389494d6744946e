"""ResNet (He et al., Deep Residual Learning for Image Recognition, CVPR 2016) on torchvision's blocks and names."""

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import nn

from backbones.backbone import Backbone, Dilated, Options, limit_stride
from backbones.vision_models import models

_BASIC, _BOTTLENECK = models.resnet.BasicBlock, models.resnet.Bottleneck
_WIDTHS = (64, 128, 256, 512)


class ResNet(Backbone):
    """Stem, max-pool and four stages of `blocks` residual blocks of the given `widths` (a bottleneck's output is 4x that).

    Stage strides are 1, 2, 2, 2 at torchvision's place in the block (the 3x3 convolution), without those that would
    exceed `stride`. The published `stem_kernel` is 7; 3 suits small images.
    """

    def __init__(
        self,
        block: Any,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        stem_kernel: int = 7,
        imagenet: str = "",
        stride: int,
        dilated: Dilated,
        frozen_statistics: bool,
    ) -> None:
        super().__init__(frozen_statistics)
        self.imagenet, self.rectified = imagenet, True
        stem, *_ = widths
        self.conv1 = nn.Conv2d(3, stem, stem_kernel, stride=2, padding=stem_kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inputs = [stem, *(width * block.expansion for width in widths)]
        self.layer1 = _stage(block, inputs[0], widths[0], blocks[0], stride=1)
        self.layer2 = _stage(block, inputs[1], widths[1], blocks[1], stride=2)
        self.layer3 = _stage(block, inputs[2], widths[2], blocks[2], stride=2)
        self.layer4 = _stage(block, inputs[3], widths[3], blocks[3], stride=2)
        self.channels = (stem, inputs[1], inputs[2], inputs[3], inputs[4])
        self.strides = (4, 4, 8, min(16, stride), stride)
        limit_stride({16: self.layer3, 32: self.layer4}, stride, dilated)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x1 = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x2 = self.layer1(x1)
        x3 = self.layer2(x2)
        x4 = self.layer3(x3)
        return x1, x2, x3, x4, self.layer4(x4) if self.rectified else _without_last_rectifier(self.layer4, x4)

    def drop_last_rectifier(self) -> None:
        self.rectified = False

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """The stem and the four stages."""
        layers = {f"layer{number}": [getattr(self, f"layer{number}")] for number in (1, 2, 3, 4)}
        return {"stem": [self.conv1, self.bn1], **layers}


def small(**options: Unpack[Options]) -> ResNet:
    """Our own network for 128-pixel images on a CPU: 0.1 GMAC at 128 x 128 and stride 16."""
    return ResNet(_BASIC, (1, 1, 1, 1), (32, 64, 128, 256), stem_kernel=3, **options)


def resnet18(**options: Unpack[Options]) -> ResNet:
    """ResNet-18."""
    return ResNet(_BASIC, (2, 2, 2, 2), _WIDTHS, imagenet="torchvision:resnet18", **options)


def resnet34(**options: Unpack[Options]) -> ResNet:
    """ResNet-34."""
    return ResNet(_BASIC, (3, 4, 6, 3), _WIDTHS, imagenet="torchvision:resnet34", **options)


def resnet50(**options: Unpack[Options]) -> ResNet:
    """ResNet-50."""
    return ResNet(_BOTTLENECK, (3, 4, 6, 3), _WIDTHS, imagenet="torchvision:resnet50", **options)


def resnet101(**options: Unpack[Options]) -> ResNet:
    """ResNet-101."""
    return ResNet(_BOTTLENECK, (3, 4, 23, 3), _WIDTHS, imagenet="torchvision:resnet101", **options)


def _stage(block: Any, inputs: int, width: int, count: int, stride: int) -> nn.Sequential:
    outputs = width * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(block(inputs, width, stride, shortcut), *(block(outputs, width) for _ in range(count - 1)))


def _without_last_rectifier(stage: Any, features: torch.Tensor) -> torch.Tensor:
    """The result of a stage for features [B,C,H,W], without the ReLU of its last block.

    A block calls one ReLU module several times, so the module itself cannot be taken away.
    """
    *blocks, last = stage
    for block in blocks:
        features = block(features)
    shortcut = features if last.downsample is None else last.downsample(features)
    *inner, end = [number for number in (1, 2, 3) if hasattr(last, f"conv{number}")]
    for number in inner:
        features = last.relu(getattr(last, f"bn{number}")(getattr(last, f"conv{number}")(features)))
    return getattr(last, f"bn{end}")(getattr(last, f"conv{end}")(features)) + shortcut
