"""ClassMix: half of the classes that a teacher sees in an image are pasted on another image, with the teacher's labels.

Olsson, Tranheden, Pinto and Svensson, ClassMix: Segmentation-Based Data Augmentation for Semi-Supervised Learning, WACV 2021.
RSEPM (Jo, Yu and Kim, arXiv 2204.06754, Table 4) compares it with its own mixing and gives no details. As in the public code
(WilhelmT/ClassMix):
* the teacher is the moving average of the network's weights; background is a class like the others;
* half of the n classes present, rounded down, are drawn, and pasted on the next image of the batch;
* the teacher's probabilities are mixed and then made labels. Their loss counts by the share of pixels whose highest probability
  is `certainty` or more;
* the average begins with the network's own weights, and its decay grows to `decay` as 1 - 1 / (steps + 1).
What image-level labels change, and what is ours: the teacher sees the classes that an image shows and no others, nothing is
learnt from what lies around an image, and the network's M_rs is mixed like the image, for its CAM (Table 1 of RSEPM). The
teacher's dropout is off. Its batch norms see the batch, as the network's do, so their statistics are no state of the training.
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from imagesets.item import VOID
from methods.edge_predict_mix import Learning, Targets, mixed
from methods.recurseed_network import RecurSeed
from methods.recurseed_targets import where_valid
from training.mixing import first_step, mixing, pasted
from training.stage import Context, Losses, Outputs, Training
from training.transfer import Batch


def drawn_classes(labels: torch.Tensor) -> list[torch.Tensor]:
    """Half of the values of each image in labels [B,h,w], rounded down, without 255."""
    present = [image.unique() for image in labels.cpu()]
    kept = [values[values != VOID] for values in present]
    return [values[torch.randperm(len(values))[: len(values) // 2]] for values in kept]


def drawn_mask(labels: torch.Tensor, drawn: list[torch.Tensor]) -> torch.Tensor:
    """Where labels [B,h,w] are one of each image's `drawn` values, bool [B,h,w]."""
    return torch.stack([torch.isin(image, values.to(image)) for image, values in zip(labels, drawn, strict=True)])


def mixed_labels(soft: torch.Tensor, mask: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels int64 [B,h,w] of mixed probabilities [B,1+K,h,w], and the highest probability [B,h,w]."""
    highest, labels = pasted(soft, soft[order], mask).max(dim=1)
    return labels, highest


class ClassMix(nn.Module):
    """The teacher of a network, and the losses of what it mixes."""

    def __init__(self, network: RecurSeed, decay: float, certainty: float, learning: Learning) -> None:
        super().__init__()
        self.teacher = deepcopy(network).requires_grad_(False)
        self.decay, self.certainty, self.learning = decay, certainty, learning

    def train(self, mode: bool = True) -> "ClassMix":
        super().train(mode)
        for module in self.teacher.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        return self

    def forward(self, batch: Batch, outputs: Outputs) -> Losses:
        """The losses of the images of a batch, each with half of its classes on the next one."""
        if "recursion" not in outputs:
            return {}
        soft, inside = self.predicted(batch)
        labels = soft.argmax(dim=1).masked_fill(~inside, VOID)
        order, mask = torch.arange(1, 1 + len(soft)) % len(soft), drawn_mask(labels, drawn_classes(labels))
        pseudo, highest = mixed_labels(soft, mask, order)
        shown = pasted(inside, inside[order], mask)
        certain = ((highest >= self.certainty) & shown).sum() / shown.sum().clamp(min=1)
        own = Targets(batch["image"], labels, outputs["recursion"], batch["labels"])
        losses = self.learning(mixed(own, order, mask)._replace(labels=pseudo.masked_fill(~shown, VOID)))
        if "mixed_segmentation" in losses:
            losses["mixed_segmentation"] = certain * losses["mixed_segmentation"]
        return losses

    @torch.no_grad()
    def predicted(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The teacher's probabilities [B,1+K,h,w] of the classes that images show, and where images are, bool [B,h,w]."""
        decoded = self.teacher.decode(batch["image"])
        absent = functional.pad(batch["labels"], (1, 0), value=1)[:, :, None, None] == 0
        own = where_valid(batch["valid"], batch["image"].shape[-2:], decoded.shape[-2:])
        return decoded.masked_fill(absent, -torch.inf).softmax(dim=1), own

    @torch.no_grad()
    def follow(self, network: nn.Module, steps: int) -> None:
        """Move the teacher towards the network; `steps` have passed since it was equal to it."""
        share = 1 - min(1 - 1 / (steps + 1), self.decay)
        for own, new in zip(self.teacher.parameters(), network.parameters(), strict=True):
            own.lerp_(new, share)


def adding(training: Training, context: Context) -> Training:
    """The mixing `classmix`."""
    settings, before = context.settings.classmix, training.after_step
    learning = Learning.of(training, context, settings.losses)
    own = ClassMix(learning.network, settings.decay, settings.certainty, learning)
    begin = first_step(training, context, settings.begin)

    def after_step(step: int) -> None:
        if before is not None:
            before(step)
        if step + 1 >= begin:
            own.follow(learning.network, step + 1 - begin)

    return replace(mixing(training, context, settings, own), after_step=after_step)
