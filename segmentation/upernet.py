"""UperNet: Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018; as in mmsegmentation.

ReCAM and LPCAM use its configuration for Swin (Liu et al., ICCV 2021) and do not publish the size of their Swin.
"""

from collections.abc import Sequence

import torch
from torch import nn

from backbones.precision import MixedPrecision
from maps.grids import resize
from segmentation.learning import MaskObjective, learning
from segmentation.masked_crop import fitted_crop
from segmentation.parameter_groups import by_part
from segmentation.pyramid_pooling import PyramidPooling
from segmentation.schedules import warmed_up
from segmentation.segmenter import DROPOUT, FCNHead, Segmenter, build_backbone, classifier, convolution
from training.stage import Context, Settings, Training

LEVELS = 4  # taps at /4, /8, /16 and /32


class UperHead(MixedPrecision):
    """Pyramid pooling on the coarsest tap, a feature pyramid from there to the finest, and all its levels merged at /4."""

    def __init__(self, channels: Sequence[int], labels: int, width: int, std: float = 0.01) -> None:
        super().__init__()
        *finer, coarsest = channels
        self.pooling = PyramidPooling(coarsest, width)
        self.lateral = nn.ModuleList(convolution(inputs, width, 1) for inputs in finer)
        self.smooth = nn.ModuleList(convolution(width, width, 3) for _ in finer)
        self.merge = convolution(LEVELS * width, width, 3)
        self.classify = nn.Sequential(nn.Dropout2d(DROPOUT), classifier(width, labels, std))

    def forward(self, *taps: torch.Tensor) -> torch.Tensor:
        """The taps [B,C,h,w], of which the last four count, finest first, to logits [B,labels,h,w] on the finest's grid."""
        *finer, coarsest = taps[-LEVELS:]
        levels = [self.pooling(coarsest)]
        for lateral, tap in zip(reversed(self.lateral), reversed(finer), strict=True):
            levels.insert(0, lateral(tap) + resize(levels[0], tap.shape[-2:]))
        smoothed = [*(smooth(level) for smooth, level in zip(self.smooth, levels, strict=False)), levels[-1]]
        return self.classify(self.merge(torch.cat([resize(level, finer[0].shape[-2:]) for level in smoothed], dim=1)))


def network(settings: Settings, classes: Sequence[str], weights: str = "none") -> Segmenter:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    own = {"drop_path": settings.drop_path} if settings.drop_path else {}
    backbone = build_backbone(settings, weights, settings.frozen_norms, stride=32, **own)
    channels, labels = backbone.channels[-LEVELS:], len(classes) + 1
    width, std = settings.width, settings.initial_std
    head = UperHead(channels, labels, width, std)
    return Segmenter(backbone, head, FCNHead(channels[-2], labels, width // 2, std))


def training(context: Context) -> Training:
    """Train on the pseudo masks of the training list."""
    settings = context.settings
    module = network(settings, context.classes, settings.weights)
    return learning(
        context,
        module,
        MaskObjective(module, settings.averaging, settings.auxiliary),
        fitted_crop(context),
        by_part(module, settings.lr, settings.head_factor, settings.weight_decay),
        warmed_up(settings.iterations, power=1.0, warm_up=settings.warm_up),
    )
