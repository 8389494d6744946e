"""What most segmenters are: a backbone, a decoder of its taps, and in training perhaps an auxiliary decoder of the same taps."""

from typing import Any

import torch
from torch import nn

import backbones
from backbones import Backbone
from backbones.precision import MixedPrecision
from training.stage import Settings

DROPOUT = 0.1  # share of the channels before a head's classifier (mmsegmentation)


class Segmenter(nn.Module):
    """A backbone and decoders. A decoder gets all taps, `decoder(*taps)`, and returns logits on a grid of its own.

    The auxiliary decoder only helps in training.
    """

    def __init__(self, backbone: Backbone, decoder: nn.Module, auxiliary: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.decoder, self.auxiliary = backbone, decoder, auxiliary

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to logits [B,labels,h,w], background first."""
        return self.decoder(*self.backbone(images))

    def in_training(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The logits of the decoder, and those of the auxiliary decoder if there is one."""
        taps = self.backbone(images)
        return [decoder(*taps) for decoder in (self.decoder, self.auxiliary) if decoder is not None]


class FCNHead(MixedPrecision, nn.Sequential):
    """The auxiliary decoder of mmsegmentation: a 3x3 convolution, dropout and a classifier on the tap before the last."""

    def __init__(self, inputs: int, labels: int, width: int, std: float = 0.01) -> None:
        super().__init__(*convolution(inputs, width, 3), nn.Dropout2d(DROPOUT), classifier(width, labels, std))

    def forward(self, *taps: torch.Tensor) -> torch.Tensor:
        """All taps of a backbone to logits [B,labels,h,w]."""
        return super().forward(taps[-2])


def convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the grid, a batch norm and a ReLU."""
    padding = kernel // 2 * dilation
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def classifier(inputs: int, labels: int, std: float = 0.01) -> nn.Conv2d:
    """mmsegmentation's last layer: 1x1, weights drawn from N(0, std), biases 0."""
    layer = nn.Conv2d(inputs, labels, 1)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def with_momentum(network: Segmenter, momentum: float) -> Segmenter:
    """The segmenter, whose batch norms take this share of every batch into their running statistics."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    return network


def build_backbone(settings: Settings, weights: str, frozen: bool, **options: Any) -> Backbone:
    """The backbone that the settings name, with initial `weights`.

    With `frozen`, batch norms that come from trained weights are constants: scale and shift do not train either. Without trained
    weights they train all the same.
    """
    constant = frozen and settings.weights != "none"
    backbone = backbones.build(settings.backbone, weights=weights, frozen_statistics=constant, **options)
    if constant:
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
    return backbone
