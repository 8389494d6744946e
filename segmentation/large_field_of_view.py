"""DeepLab's large field of view (Chen et al., Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs,
ICLR 2015) on ResNet-38: the segmenter of SEAM, HFPL and, in another form, MCTformer.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from backbones.precision import MixedPrecision
from segmentation.learning import MaskObjective, learning
from segmentation.masked_crop import scaled_crop
from segmentation.parameter_groups import with_faster_head
from segmentation.segmenter import Segmenter, build_backbone, convolution, with_momentum
from training import optimisers
from training.stage import Context, Settings, Training


class LastTap(MixedPrecision, nn.Sequential):
    """Layers on the last tap."""

    def forward(self, *taps: torch.Tensor) -> torch.Tensor:
        """All taps of a backbone to logits [B,labels,h,w] on the last tap's grid."""
        return cast(torch.Tensor, super().forward(taps[-1]))


def seam_head(inputs: int, labels: int, width: int, dilation: int = 12) -> LastTap:
    """A dilated 3x3 convolution and a 1x1 convolution with batch norms, dropout and a classifier.

    The batch norms' scale and shift are in no optimiser's group in the public code; they stay 1 and 0.
    """
    parts = [convolution(inputs, width, 3, dilation), convolution(width, width, 1)]
    head = LastTap(*parts, nn.Dropout(0.5), nn.Conv2d(width, labels, 1))
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return head


def mctformer_head(inputs: int, labels: int, width: int, dilation: int = 12) -> LastTap:
    """Two dilated 3x3 convolutions with biases and a ReLU between them."""
    first, second = (
        nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation) for before, after in ((inputs, width), (width, labels))
    )
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight)
    return LastTap(first, nn.ReLU(inplace=True), second)


HEADS = {"seam": seam_head, "mctformer": mctformer_head}


def network(settings: Settings, classes: Sequence[str], weights: str = "none") -> Segmenter:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    norms = settings.frozen_norms, settings.batch_statistics
    backbone = build_backbone(settings, weights, *norms, stride=settings.stride, dilated=True)
    backbone.freeze(settings.frozen if settings.weights != "none" else "none")
    head = HEADS[settings.head](backbone.channels[-1], len(classes) + 1, settings.width, settings.dilation)
    return with_momentum(Segmenter(backbone, head), settings.norm_momentum)


def training(context: Context) -> Training:
    """Train on the pseudo masks of the training list. Logits are enlarged as the head's code does: only SEAM's aligns corners."""
    settings = context.settings
    module = network(settings, context.classes, settings.weights)
    return learning(
        context,
        module,
        MaskObjective(module, settings.averaging, align_corners=settings.head == "seam"),
        scaled_crop(context),
        with_faster_head(module.backbone, module.decoder, settings.lr, settings.weight_decay),
        optimisers.poly(settings.iterations + 1),  # the public code's denominator
    )
