"""PSPNet: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017; as in mmsegmentation, which PMM uses (Eli-YiLi/WSSS_MMSeg)."""

from collections.abc import Sequence

import torch
from torch import nn

from backbones.precision import MixedPrecision
from segmentation.learning import MaskObjective, learning
from segmentation.masked_crop import fitted_crop
from segmentation.pyramid_pooling import PyramidPooling
from segmentation.schedules import warmed_up
from segmentation.segmenter import FCNHead, Segmenter, build_backbone, classifier
from training import optimisers
from training.stage import Context, Settings, Training


class PSPHead(MixedPrecision):
    """Pyramid pooling on the last tap, dropout and a classifier."""

    def __init__(self, inputs: int, labels: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.pooling = PyramidPooling(inputs, width)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), classifier(width, labels))

    def forward(self, *taps: torch.Tensor) -> torch.Tensor:
        """All taps of a backbone to logits [B,labels,h,w] on the last tap's grid."""
        return self.classify(self.pooling(taps[-1]))


def network(settings: Settings, classes: Sequence[str]) -> Segmenter:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return _build(settings, classes, weights="none")


def training(context: Context) -> Training:
    """Train on the pseudo masks of the training list."""
    settings = context.settings
    module = _build(settings, context.classes, settings.weights)
    return learning(
        context,
        module,
        MaskObjective(module, settings.averaging, settings.auxiliary),
        fitted_crop(context),
        optimisers.groups(settings.weight_decay, (module.parameters(), settings.lr)),
        warmed_up(settings.iterations, floor=settings.floor),
    )


def _build(settings: Settings, classes: Sequence[str], weights: str) -> Segmenter:
    backbone = build_backbone(settings, weights, settings.frozen_norms, stride=settings.stride, dilated=True)
    labels, width = len(classes) + 1, settings.width
    head = PSPHead(backbone.channels[-1], labels, width)
    return Segmenter(backbone, head, FCNHead(backbone.channels[-2], labels, width // 2))
