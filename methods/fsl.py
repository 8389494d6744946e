"""FSL: the feature similarity loss, an add-on that makes maps alike where near pixels have alike colours, and unlike where not.

Jonnarth, Zhang and Felsberg, High-fidelity Pseudo-labels for Boosting Weakly-Supervised Segmentation, WACV 2024 (HFPL), Eq. 9-13.
The loss itself is in `maps.feature_similarity`. Its maps y are made of the network's scores s by a rule that bounds the gradient:

    r           s rectified, by its minimum and maximum (code), with gradient through both; the rule of the published figures
    r-paper     s rectified, divided by its maximum (Eq. 4), with gradient through it
    r-detached  as r-paper, the maximum without gradient, as in the paper's bound on the gradient (Eq. 22)
    b           the logistic function
    s           the scores themselves; the paper rejects it, because nothing bounds the distance of unlike pixels
    a           softmax over background and classes, of all classes; the multinomial form of the paper before

As in the public code (arvijj/hfpl), which is SEAM's alone:
* classes that an image does not show count as 0, and a background counts beside the others: 1 - their maximum (`background`). The
  text names the classes alone. In an image of one class background repeats its contrast, so the loss is twice as large. The
  default is the code's for every network, also for those without a background of their own, because it is made of the classes;
* the image is reduced to the grid bilinearly with its corners in the corners; what lies outside of a crop has the mean colour;
* with SEAM, y is made of the first view's scores and not of the refined maps.
The paper enlarges the maps of SIPE and MCTformer and has no code for them. `upsampling` enlarges the scores, bilinearly by areas,
for which a whole factor is free of artifacts. They are normalised after that, so their maximum is 1 on the grid that is compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from imagesets.transforms import MEAN, STANDARD_DEVIATION
from maps.feature_similarity import similarity_loss
from maps.grids import resize
from maps.normalising import max_normalised, with_own_background
from maps.reading import unit_maximum
from maps.score_maps import foreground_scores, score_map, with_background_score
from training.stage import Context, Losses, Outputs, Settings, Training

GATINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "r": max_normalised,
    "r-paper": lambda scores: unit_maximum(scores.relu(), 0.0),  # Eq. 4
    "r-detached": lambda scores: unit_maximum(scores.relu(), 0.0, detached=True),
    "b": torch.sigmoid,
    "s": lambda scores: scores,
}


class FeatureSimilarity(nn.Module):
    """An objective and the similarity loss of its score map."""

    def __init__(self, training: Training, settings: Settings) -> None:
        super().__init__()
        self.objective, self.upsampling = training.objective, settings.upsampling
        self.gating, self.background = settings.gating, settings.background
        self.mu, self.sigma, self.weight = settings.mu, settings.sigma, settings.weight * settings.factor
        self.scores = partial(score_map, training.network)  # the network is a part of the objective already

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """As the objective's, with the loss `feature_similarity`. `batch` holds image [B,3,H,W] and labels [B,K] in {0,1}."""
        losses, outputs = self.objective(batch, step)
        scores = self.scores(outputs)
        scores = resize(scores, [side * self.upsampling for side in scores.shape[-2:]])
        maps = gated(scores, batch["labels"], self.gating, self.background)
        loss = similarity_loss(maps, colours(batch["image"], scores.shape[-2:]), self.mu, self.sigma)
        return losses | {"feature_similarity": self.weight * loss}, outputs


def gated(scores: torch.Tensor, labels: torch.Tensor, gating: str, background: bool) -> torch.Tensor:
    """The maps y that the loss compares, of scores [B,K or 1+K,h,w] and multi-hot labels [B,K]: [B,K,h,w].

    With `background` and for the gating "a" they are [B,1+K,h,w].
    """
    classes = labels.shape[1]
    if gating == "a":
        return with_background_score(scores, classes).softmax(dim=1)
    maps = GATINGS[gating](foreground_scores(scores, classes)) * labels[:, :, None, None]
    return with_own_background(maps) if background else maps


def colours(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Normalised images [B,3,H,W] to their colours in 0..1 on a grid of `size`."""
    planes = functional.interpolate(images, size=tuple(size), mode="bilinear", align_corners=True).unbind(dim=1)
    found = [plane * deviation + mean for plane, deviation, mean in zip(planes, STANDARD_DEVIATION, MEAN, strict=True)]
    return torch.stack(found, dim=1).clamp(0, 1)


def adding(training: Training, context: Context) -> Training:
    """The add-on `fsl`."""
    return replace(training, objective=FeatureSimilarity(training, context.settings.fsl))
