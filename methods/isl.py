"""ISL: the importance sampling loss, an add-on that classifies single positions, drawn where a class scores high.

Jonnarth, Zhang and Felsberg, High-fidelity Pseudo-labels for Boosting Weakly-Supervised Segmentation, WACV 2024 (HFPL). Global
average pooling spreads its gradient evenly. ISL draws positions of each image for each class from the distribution that the
class's own posterior has over the image (Eq. 15), and takes the classification loss of those positions alone (Eq. 8). It
replaces a share `weight` (lambda) of the network's classification loss (Eq. 16). All classes take part: those that an image
does not show are drawn where they score highest, and are lowered there.

As in the public code (arvijj/hfpl):
* 1e-5 is added to the binomial posterior, for the draw alone; no gradient flows through the draw;
* the loss is the mean over images, classes and samples, without background (Eq. 8: the sum over samples);
* with SEAM it replaces a share of the first view's half of the loss, so its `factor` is 0.5 there.
The multinomial posterior (Eq. 5-7, from the paper before) has no public code. It is the softmax over background and classes; the
loss is that of the probability. A network without background gets the score 0 for it.
The paper multiplies ISL by 0.1 for SIPE and MCTformer and has no code for them. Our `factor` is on the loss of the samples
(weight * factor * ISL): on the whole mixture it would also weaken the classification that these networks are tuned for.

Positions are drawn with torch's generator, which the loop seeds anew in every step and worker. With several workers, or in
several parts, the loss is the mean of their means, which are over equally many images.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from maps.score_maps import foreground_scores, score_map, with_background_score
from training.stage import Context, Losses, Outputs, Settings, Training

# the loss that a share is taken of. AMN has no loss on image-level labels: it classifies positions by confident labels, and ISL
# classifies positions as well, by the labels that are certain
REPLACED = ("classification", "pixel_classification")


class Posterior(NamedTuple):
    """How scores become the posterior of a class at a position.

    `values` makes [B,K,N] of scores [B,K or 1+K,h,w] and K; `probability` makes the posterior of these values, and `losses`
    their classification losses, from values and labels of one shape. `guard` is added to the posterior for the draw.
    """

    values: Callable[[torch.Tensor, int], torch.Tensor]
    probability: Callable[[torch.Tensor], torch.Tensor]
    losses: Callable[..., torch.Tensor]
    guard: float


def cross_entropy_of_logarithms(logarithms: torch.Tensor, labels: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Binary cross-entropy of probabilities given by their logarithms. torch's own refuses the NaN of a network that diverged."""
    of_the_rest = torch.log(-torch.expm1(logarithms.clamp(max=-(2**-24))))  # 1 counts as the number before it
    losses = -(labels * logarithms + (1 - labels) * of_the_rest)
    return losses.mean() if reduction == "mean" else losses


POSTERIORS = {
    "binomial": Posterior(
        lambda scores, classes: foreground_scores(scores, classes).flatten(2),
        torch.sigmoid,
        functional.binary_cross_entropy_with_logits,
        guard=1e-5,
    ),
    "multinomial": Posterior(
        lambda scores, classes: with_background_score(scores, classes).log_softmax(dim=1)[:, 1:].flatten(2),
        torch.exp,
        cross_entropy_of_logarithms,
        guard=1e-30,  # Eq. 7 has none; a class whose softmax is 0 everywhere in float32 is drawn evenly
    ),
}


class ImportanceSampling(nn.Module):
    """An objective, a share of whose classification loss is the loss of drawn positions."""

    def __init__(self, training: Training, settings: Settings) -> None:
        super().__init__()
        self.objective, self.posterior = training.objective, POSTERIORS[settings.posterior]
        self.weight, self.factor, self.samples = settings.weight, settings.factor, settings.samples
        self.scores = partial(score_map, training.network)  # the network is a part of the objective already

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """As the objective's; its classification loss is `1 - weight` of what it was, and `importance_sampling` is new.

        `batch` holds labels [B,K] in {0,1}.
        """
        losses, outputs = self.objective(batch, step)
        own = next((name for name in REPLACED if name in losses), None)
        if own is None:  # a step that trains no classification: Spatial-BCE's steps for its thresholds
            return losses, outputs
        values = self.posterior.values(self.scores(outputs), batch["labels"].shape[1])
        indices = drawn(distribution(values, self.posterior), self.samples)
        loss = self.weight * self.factor * sampled_loss(values, batch["labels"], indices, self.posterior)
        return losses | {own: (1 - self.weight) * losses[own], "importance_sampling": loss}, outputs


@torch.no_grad()
def distribution(values: torch.Tensor, posterior: Posterior) -> torch.Tensor:
    """The distribution [B,K,N] over an image's positions from which a class's are drawn (Eq. 7 and 15)."""
    weights = posterior.probability(values) + posterior.guard
    return weights / weights.sum(dim=2, keepdim=True)


def drawn(distributions: torch.Tensor, samples: int) -> torch.Tensor:
    """Positions [B,K,n], drawn with replacement from distributions [B,K,N]."""
    known = distributions.nan_to_num(nan=1.0)  # of a network that diverged: its loss is to tell, as without ISL
    rows = torch.multinomial(known.flatten(0, 1), samples, replacement=True)
    return rows.unflatten(0, distributions.shape[:2])


def sampled_loss(values: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor, posterior: Posterior) -> torch.Tensor:
    """The mean classification loss of the positions `indices` [B,K,n] of values [B,K,N], with multi-hot labels [B,K] (Eq. 8)."""
    found = values.gather(2, indices)
    return posterior.losses(found, labels[:, :, None].expand_as(found))


def adding(training: Training, context: Context) -> Training:
    """The add-on `isl`."""
    return replace(training, objective=ImportanceSampling(training, context.settings.isl))
