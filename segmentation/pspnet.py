"""PSPNet: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017; as in mmsegmentation, which PMM uses (Eli-YiLi/WSSS_MMSeg).

PMM trains it twice (cyclic pseudo masks): with pretended under-fitting on the pseudo masks of its method, then with plain cross
entropy on what the first network predicts for the training list. The public code predicts with the checkpoint that is best on
the masks of val. Here it is the last checkpoint, because a method may see no masks.
The code does not say whether under-fitting counts for the auxiliary decoder; here it does, by that decoder's own mean.
"""

from collections.abc import Sequence

import torch
from torch import nn

from backbones.precision import MixedPrecision
from segmentation.learning import MaskObjective, learning
from segmentation.masked_crop import fitted_crop
from segmentation.parameter_groups import by_part
from segmentation.pyramid_pooling import PyramidPooling
from segmentation.schedules import warmed_up
from segmentation.segmenter import DROPOUT, FCNHead, Segmenter, build_backbone, classifier
from segmentation.under_fitting import UnderFittedObjective
from training.stage import Context, Settings, Training


class PSPHead(MixedPrecision):
    """Pyramid pooling on the last tap, dropout and a classifier."""

    def __init__(self, inputs: int, labels: int, width: int, std: float = 0.01) -> None:
        super().__init__()
        self.pooling = PyramidPooling(inputs, width)
        self.classify = nn.Sequential(nn.Dropout2d(DROPOUT), classifier(width, labels, std))

    def forward(self, *taps: torch.Tensor) -> torch.Tensor:
        """All taps of a backbone to logits [B,labels,h,w] on the last tap's grid."""
        return self.classify(self.pooling(taps[-1]))


def network(settings: Settings, classes: Sequence[str], weights: str = "none") -> Segmenter:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    backbone = build_backbone(settings, weights, settings.frozen_norms, stride=settings.stride, dilated=True)
    labels, width, std = len(classes) + 1, settings.width, settings.initial_std
    head = PSPHead(backbone.channels[-1], labels, width, std)
    return Segmenter(backbone, head, FCNHead(backbone.channels[-2], labels, width // 2, std))


def training(context: Context) -> Training:
    """Train on the pseudo masks of the training list; after a first training (`cyclic`), without pretended under-fitting."""
    settings = context.settings
    return _training(context, "none" if settings.cyclic else settings.under_fitting)


def first_training(context: Context) -> Training:
    """The first training of two: it predicts the masks of the second."""
    return _training(context, context.settings.under_fitting)


def _training(context: Context, under_fitting: str) -> Training:
    settings = context.settings
    module = network(settings, context.classes, settings.weights)
    if under_fitting == "none":
        objective = MaskObjective(module, settings.averaging, settings.auxiliary)
    else:
        objective = UnderFittedObjective(module, settings.auxiliary, under_fitting)
    groups = by_part(module, settings.lr, settings.head_factor, settings.weight_decay)
    schedule = warmed_up(settings.iterations, floor=settings.floor)
    return learning(context, module, objective, fitted_crop(context), groups, schedule)
