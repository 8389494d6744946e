"""The networks of the public code, plain: torchvision's ResNets with frozen batch norms, and the heads on them.

Their parameters have the names of our networks, so both load the same weights.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from backbones.vision_models import models


class ResNet(nn.Module):
    """The parts of torchvision's `network` but its classifier; returns the outputs of the stem and of the four stages."""

    conv1: Any
    bn1: Any
    relu: Any
    maxpool: Any
    layer1: Any
    layer2: Any
    layer3: Any
    layer4: Any

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, part in network.named_children():
            if name not in ("avgpool", "fc"):
                setattr(self, name, part)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        taps = [self.maxpool(self.relu(self.bn1(self.conv1(images))))]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            taps.append(stage(taps[-1]))
        return taps


def resnet50() -> ResNet:
    """ResNet-50 whose last stage has lost its stride: stride 16, no dilation."""
    made = ResNet(models.resnet50())
    for convolution in (made.layer4[0].conv2, made.layer4[0].downsample[0]):
        convolution.stride = (1, 1)
    return made


def resnet101() -> ResNet:
    """ResNet-101 at stride 8 with dilations 2 and 4 in all blocks of the last stages, and Caffe's rounding of the max-pool."""
    made = ResNet(models.resnet101(replace_stride_with_dilation=[False, True, True]))
    made.maxpool.ceil_mode = True
    for stage, dilation in ((made.layer3, 2), (made.layer4, 4)):
        stage[0].conv2.dilation = stage[0].conv2.padding = (dilation, dilation)
    return made


class Classifier(nn.Module):
    """CAM's network: a bias-free 1x1 convolution on the global average."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = resnet50()
        self.classifier = nn.Conv2d(2048, classes, 1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(functional.adaptive_avg_pool2d(self.backbone(images)[-1], 1))[:, :, 0, 0]


class ASPP(nn.ModuleList):
    """The sum of four dilated 3x3 convolutions."""

    def __init__(self, labels: int) -> None:
        super().__init__(nn.Conv2d(2048, labels, 3, padding=rate, dilation=rate) for rate in (6, 12, 18, 24))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return sum((branch(features) for branch in self), torch.zeros(()))


class AMN(nn.Module):
    """Features times a vector of the image-level labels, and ASPP. Without the dropout between them results can be equal."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = resnet50()
        self.condition = nn.Linear(classes, 2048)
        self.aspp = ASPP(classes + 1)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.aspp(self.backbone(images)[-1] * self.condition(labels)[:, :, None, None])


class DeepLabV2(nn.Module):
    """ResNet-101 and ASPP."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.backbone = resnet101()
        self.aspp = ASPP(labels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.aspp(self.backbone(images)[-1])
