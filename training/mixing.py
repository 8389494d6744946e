"""Mixings: an objective that, from some step on, also learns from mixtures of the images of a batch.

What is drawn is drawn with torch's generator on the CPU, which the loop seeds anew in every step and worker: a resumed training
draws the same, and so does a GPU. Each part of each worker's share of a batch is mixed for itself.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from imagesets.errors import WrongInput
from training import optimisers
from training.stage import Context, Losses, Outputs, Settings, Training
from training.transfer import Batch

Mix = Callable[[Batch, Outputs], Losses]  # the losses of mixtures, from a batch and what its objective put out


class Mixing(nn.Module):
    """An objective and, from the step `begin` on, `weight` times the losses of mixed images.

    A `mix` that is a module has state of its own.
    """

    def __init__(self, objective: nn.Module, begin: int, weight: float, mix: Mix) -> None:
        super().__init__()
        self.objective, self.begin, self.weight, self.mix = objective, begin, weight, mix

    def forward(self, batch: Batch, step: int) -> tuple[Losses, Outputs]:
        """As the objective's, with the losses of `mix`; where two mixings name a loss alike, their sum.

        Raises WrongInput if there is one image alone.
        """
        losses, outputs = self.objective(batch, step)
        if step < self.begin:
            return losses, outputs
        if len(batch["image"]) < 2:
            raise WrongInput("a mixing needs at least two images in each part of a batch, and this part has one")
        found = {name: self.weight * loss for name, loss in self.mix(batch, outputs).items()}
        return losses | {name: loss + losses[name] if name in losses else loss for name, loss in found.items()}, outputs


def mixing(training: Training, context: Context, settings: Settings, mix: Mix) -> Training:
    """A training that also learns from what `mix` mixes, from the mixing's `settings` begin (epochs) and weight."""
    begin = first_step(training, context, settings.begin)
    return replace(training, objective=Mixing(training.objective, begin, settings.weight, mix))


def first_step(training: Training, context: Context, epochs: int) -> int:
    """The step with which a mixing begins after `epochs`."""
    examples = training.examples(context.items, context.generator("the examples of an epoch"))
    return optimisers.steps(len(examples), training.batch, epochs)


def of_others(count: int) -> torch.Tensor:
    """For each of `count` images another one, drawn evenly and independently: indices [count]."""
    return (torch.arange(count) + torch.randint(1, count, (count,))) % count


def pasted(first: torch.Tensor, second: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`first` where the mask [B,H,W] is true, else `second`; both are [B,C,H,W] or [B,H,W]."""
    return torch.where(mask if first.ndim == mask.ndim else mask[:, None], first, second)


def mixed_classification(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, labels: torch.Tensor) -> Losses:
    """Binary cross-entropy of a network's logits [B,K] for mixed images [B,3,H,W] and labels [B,K] in 0..1."""
    return {"mixed_classification": functional.binary_cross_entropy_with_logits(network(images), labels)}
