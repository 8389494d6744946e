"""The differentiable score map of a network that is being trained, which losses on single positions read."""

import torch
from torch import nn

from training.stage import Outputs


def score_map(network: nn.Module, outputs: Outputs) -> torch.Tensor:
    """The logits of every cell in a training step: [B,K,h,w], or [B,1+K,h,w] with background first.

    They are an objective's output `scores`. Objectives that were here before this loss have outputs of which they are a function,
    and stay as they are because a change would train stored networks anew: CAM's and ReCAM's `features`, to which the
    classifier's weights are applied, and AMN's `logits`, which are those of every cell.
    """
    if "scores" in outputs:
        return outputs["scores"]
    if "features" in outputs:
        return torch.einsum("kc,bchw->bkhw", network.weights, outputs["features"])
    return outputs["logits"]


def foreground_scores(scores: torch.Tensor, classes: int) -> torch.Tensor:
    """The scores [B,K,h,w] of the classes alone."""
    return scores[:, -classes:]


def with_background_score(scores: torch.Tensor, classes: int) -> torch.Tensor:
    """The scores [B,1+K,h,w], background first. Without a channel of its own it has the score 0, at which a logistic is 1/2."""
    return torch.cat([torch.zeros_like(scores[:, :1]), scores], dim=1) if scores.shape[1] == classes else scores
