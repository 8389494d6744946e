"""ResNet-101 with a deep stem, as YudeWang/semantic-segmentation-codebase has it under DeepLabV3+."""

from itertools import pairwise
from typing import Any, Unpack

from torch import nn

from backbones.backbone import Options
from backbones.resnet import ResNet
from backbones.vision_models import models

STEM = (3, 64, 64, 128)  # channels before and after the three convolutions that replace the one of 7x7


class DeepStemResNet(ResNet):
    """A ResNet of bottlenecks whose stem is three 3x3 convolutions, the first of stride 2, each with a batch norm and a ReLU."""

    def __init__(self, blocks: tuple[int, ...], **options: Unpack[Options]) -> None:
        super().__init__(models.resnet.Bottleneck, blocks, (64, 128, 256, 512), **options)
        strides, layers = iter((2, 1, 1)), list[nn.Module]()
        for inputs, outputs in pairwise(STEM):
            layers += [
                nn.Conv2d(inputs, outputs, 3, next(strides), 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.conv1: Any = nn.Sequential(*layers[:-2])
        self.bn1 = nn.BatchNorm2d(STEM[-1])
        first: Any = self.layer1[0]
        first.conv1 = nn.Conv2d(STEM[-1], first.conv1.out_channels, 1, bias=False)
        first.downsample[0] = nn.Conv2d(STEM[-1], first.downsample[0].out_channels, 1, bias=False)
        self.channels = (STEM[-1], *self.channels[1:])
        for module in (*self.conv1, first.conv1, first.downsample[0]):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet101_deep(**options: Unpack[Options]) -> DeepStemResNet:
    """ResNet-101 with a deep stem; there are no ImageNet weights of it in torchvision or timm."""
    return DeepStemResNet((3, 4, 23, 3), **options)
