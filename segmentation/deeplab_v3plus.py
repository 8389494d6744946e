"""DeepLabV3+: Chen et al., Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation, ECCV 2018.

The papers' codes have plain convolutions and differ in the decoder, so its parts are settings. The defaults are RecurSeed's
(shjo-april/RecurSeed_and_EdgePredictMix); the variant `seam` is YudeWang/semantic-segmentation-codebase.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from backbones.backbone import Dilated
from backbones.precision import MixedPrecision
from backbones.vision_models import models
from segmentation.learning import MaskObjective, learning
from segmentation.masked_crop import scaled_crop
from segmentation.parameter_groups import by_part
from segmentation.segmenter import Segmenter, build_backbone, convolution, with_momentum
from training import optimisers
from training.stage import Context, Settings, Training

LOW = -4  # the tap at stride 4
DILATED: dict[str, Dilated] = {"none": False, "torchvision": True, "recurseed": "recurseed"}  # the setting `dilated`


class Decoder(MixedPrecision):
    """ASPP with a pooled branch on the last tap, enlarged to the tap at stride 4; the two are merged by convolutions.

    `low` are the channels and the kernel of the convolution on the tap at stride 4, `dropouts` those after the two merging
    convolutions. The last convolution has a bias if its `kernel` is 1 (RecurSeed: 3, without bias).
    """

    def __init__(
        self,
        inputs: tuple[int, int],
        labels: int,
        rates: Sequence[int],
        low: tuple[int, int] = (48, 1),
        dropouts: Sequence[float] = (0.5, 0.1),
        kernel: int = 3,
        width: int = 256,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        fine, coarse = inputs
        self.align_corners = align_corners
        self.aspp = models.segmentation.deeplabv3.ASPP(coarse, list(rates), width)
        self.low = convolution(fine, *low)
        parts = [convolution(width + low[0], width, 3), convolution(width, width, 3)]
        merging = [layer for part, share in zip(parts, dropouts, strict=True) for layer in (part, nn.Dropout(share))]
        self.merge = nn.Sequential(*merging, nn.Conv2d(width, labels, kernel, padding=kernel // 2, bias=kernel == 1))

    def forward(self, *taps: torch.Tensor) -> torch.Tensor:
        """The taps [B,C,h,w] of a backbone to logits [B,labels,h,w] on the grid at stride 4."""
        low = self.low(taps[LOW])
        high = functional.interpolate(self.aspp(taps[-1]), low.shape[-2:], mode="bilinear", align_corners=self.align_corners)
        return self.merge(torch.cat([high, low], dim=1))  # type: ignore[no-any-return]


def network(settings: Settings, classes: Sequence[str], weights: str = "none") -> Segmenter:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    dilated = DILATED[settings.dilated]
    backbone = build_backbone(settings, weights, settings.frozen_norms, stride=settings.stride, dilated=dilated)
    decoder = Decoder(
        (backbone.channels[LOW], backbone.channels[-1]),
        len(classes) + 1,
        settings.rates,
        (settings.low_width, settings.low_kernel),
        settings.dropouts,
        settings.last_kernel,
        settings.width,
        settings.align_corners,
    )
    return with_momentum(Segmenter(backbone, decoder), settings.norm_momentum)


def training(context: Context) -> Training:
    """Train on the pseudo masks of the training list."""
    settings = context.settings
    module = network(settings, context.classes, settings.weights)
    return learning(
        context,
        module,
        MaskObjective(module, settings.averaging, align_corners=settings.align_corners),
        scaled_crop(context),
        by_part(
            module,
            settings.lr,
            settings.head_factor,
            settings.weight_decay,
            cast(Decoder, module.decoder).merge[-1],
            settings.classifier_factor,
        ),
        optimisers.poly(settings.iterations),
    )
