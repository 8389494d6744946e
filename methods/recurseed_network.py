"""RecurSeed's single-stage network: a classifier of positions and the decoder of DeepLabV3+ on one backbone.

Jo, Yu and Kim, RecurSeed and EdgePredictMix, arXiv 2204.06754, as in the public code (shjo-april/RecurSeed_and_EdgePredictMix):
a bias-free 1x1 classifier on the last tap, and a decoder whose features at stride 4 are as wide as its ASPP.
"""

import re
from collections.abc import Sequence

import torch
from torch import nn

import backbones
from backbones.state import State
from methods.cam import Classifier
from segmentation.deeplab_v3plus import LOW, Decoder
from training.stage import Settings

# names in the public code's checkpoints as patterns, and ours
AUTHORS = {
    r"^model\.": "backbone.",
    r"^aspp\.aspp1": "decoder.aspp.convs.0",
    r"^aspp\.aspp2": "decoder.aspp.convs.1",
    r"^aspp\.aspp3": "decoder.aspp.convs.2",
    r"^aspp\.aspp4": "decoder.aspp.convs.3",
    r"^aspp\.global_avg_pool\.1\.conv": "decoder.aspp.convs.4.1",
    r"^aspp\.global_avg_pool\.1\.bn": "decoder.aspp.convs.4.2",
    r"^aspp\.block\.0": "decoder.aspp.project",
    r"^decoder\.low_block": "decoder.low",
    r"^decoder\.classifier": "decoder.merge",
    r"^(decoder\..*)\.conv\.": r"\1.0.",
    r"^(decoder\..*)\.bn\.": r"\1.1.",
}


class RecurSeed(Classifier):
    """A classifier of positions and the decoder of DeepLabV3+ on one backbone."""

    def __init__(self, backbone: backbones.Backbone, classes: int, decoder: nn.Module) -> None:
        super().__init__(backbone, classes)
        self.decoder = decoder

    def decode(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to logits [B,1+K,ceil(H/4),ceil(W/4)], background first."""
        return self.decoder(*self.backbone(images))  # type: ignore[no-any-return]

    def both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
        """CAM logits [B,K,h,w], the decoder's logits [B,1+K,H/4,W/4] and the backbone's taps, in one pass."""
        taps = self.backbone(images)
        return self.classifier(taps[-1]), self.decoder(*taps), taps

    def renamed(self, state: State) -> State:
        """A state dict under this network's names; a file may have those of the public code."""
        if not any(name.startswith("model.") for name in state):
            return state
        for pattern, own in AUTHORS.items():
            state = {re.sub(pattern, own, name): value for name, value in state.items()}
        return state


def build(settings: Settings, classes: Sequence[str], weights: str, frozen_statistics: bool) -> RecurSeed:
    """The network of the settings; `weights` and `frozen_statistics` (of the backbone alone) as in `backbones.build`."""
    backbone = backbones.build(
        settings.backbone.name, stride=settings.stride, weights=weights, frozen_statistics=frozen_statistics
    )
    inputs = backbone.channels[LOW], backbone.channels[-1]
    decoder = Decoder(inputs, len(classes) + 1, settings.rates, low=(settings.low_width, 1), width=settings.width)
    return RecurSeed(backbone, len(classes), decoder)
