"""How segmenters learn from masks: the cross entropy of their logits at the size of the masks, and their optimiser."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from segmentation.losses import averaged_cross_entropy
from segmentation.masked_crop import MaskedCrop
from segmentation.segmenter import Segmenter
from training import optimisers
from training.stage import Context, Losses, Outputs, Training


class MaskObjective(nn.Module):
    """The cross entropy of the decoder, and `auxiliary` times that of the auxiliary decoder.

    Logits are enlarged to the masks, with aligned corners or not; `averaging` is a rule of `segmentation.losses`.
    """

    def __init__(self, network: Segmenter, averaging: str = "valid", auxiliary: float = 1.0, align_corners: bool = False) -> None:
        super().__init__()
        self.network, self.averaging, self.weights, self.align_corners = network, averaging, (1.0, auxiliary), align_corners

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`image` float32 [B,3,H,W] and `label` uint8 [B,H,W] to `cross_entropy`, and `auxiliary` if there is one.

        The output is the decoder's logits [B,labels,h,w] on their own grid.
        """
        label, found = batch["label"], self.network.in_training(batch["image"])
        losses = {
            name: weight * self.loss(self._enlarged(logits, label), label)
            for name, weight, logits in zip(("cross_entropy", "auxiliary"), self.weights, found, strict=False)
        }
        return losses, {"logits": found[0]}

    def loss(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The cross entropy of logits [B,labels,H,W] at the size of the masks [B,H,W]."""
        return averaged_cross_entropy(logits, label, self.averaging)

    def _enlarged(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        size = tuple(label.shape[-2:])
        return functional.interpolate(logits, size=size, mode="bilinear", align_corners=self.align_corners)


def learning(
    context: Context,
    network: nn.Module,
    objective: nn.Module,
    sample: MaskedCrop,
    groups: list[dict[str, Any]],
    schedule: optimisers.Schedule,
) -> Training:
    """The training of a segmenter, with what the settings of every segmenter say: optimiser, batch, its parts, and length."""
    settings = context.settings
    return Training(
        network=network,
        objective=objective,
        sample=sample,
        optimiser=optimisers.build(settings.optimiser, groups, settings.momentum),
        schedule=schedule,
        batch=settings.batch,
        steps=settings.iterations,
        accumulate=settings.accumulate,
    )
