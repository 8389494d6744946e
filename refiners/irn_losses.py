"""What IRNet learns: affinities and displacements of pairs of nearby cells, from confident labels (IRN section 4.3).

Symbols of the paper: boundary B, affinity a_ij = 1 - max of B on the path between i and j, displacement D, P+ and P- the
pairs of equal and of different label.
"""

from typing import NamedTuple

import torch

from refiners.pair_geometry import anchored_minima, anchors, directions, partners

EPSILON = 1e-5  # added inside each logarithm and to each count (IRN code)


class Pairs(NamedTuple):
    """Which pairs have equal labels (background, or an object class) or different ones, each bool [B,directions,rows,columns]."""

    background: torch.Tensor
    foreground: torch.Tensor
    different: torch.Tensor


def pairs(labels: torch.Tensor, classes: int, radius: int) -> Pairs:
    """Sort the pairs of a label map uint8 [B,h,w] (0 background, 1..classes); a pair with a higher label (255) is in no set."""
    first, second = anchors(labels, radius), partners(labels, radius)
    valid = (first <= classes) & (second <= classes)
    equal = valid & (first == second)
    return Pairs(equal & (first == 0), equal & (first > 0), valid & (first != second))


def affinity_losses(boundary: torch.Tensor, kinds: Pairs, radius: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive and negative affinity loss of boundary probabilities [B,h,w].

    Positive: -log(a) averaged over background pairs and over foreground pairs, and the mean of both. Negative: -log(1 - a)
    averaged over pairs of different label. An empty set gives 0.
    """
    affinity = anchored_minima(1 - boundary, radius)
    # one logarithm serves all three sets: each pair has its own argument
    logarithm = -torch.log(torch.where(kinds.different, 1 - affinity, affinity) + EPSILON)
    background, foreground, different = (_mean(logarithm, kind) for kind in kinds)
    return (background + foreground) / 2, different


def displacement_losses(displacement: torch.Tensor, kinds: Pairs, radius: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Foreground and background displacement loss of D [B,2,h,w].

    Two cells i, j of one object point at the same centre: |D(i) - D(j) - (j - i)|. Two background cells do not: |D(i) - D(j)|.
    Means over pairs and both channels. An empty set gives 0.
    """
    difference = anchors(displacement, radius) - partners(displacement, radius)  # [B,2,directions,rows,columns]
    offsets = torch.tensor(directions(radius), dtype=difference.dtype, device=difference.device).T[:, :, None, None]
    # no pair is in both sets, so one residual serves both
    residual = (difference - offsets * kinds.foreground[:, None]).abs().mean(dim=1)
    return _mean(residual, kinds.foreground), _mean(residual, kinds.background)


def _mean(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return (values * chosen).sum() / (chosen.sum() + EPSILON)


def losses(
    logits: torch.Tensor, displacement: torch.Tensor, labels: torch.Tensor, classes: int, radius: int
) -> dict[str, torch.Tensor]:
    """The four named losses of boundary logits [B,1,h,w] and displacements [B,2,h,w], each with its weight of one half."""
    kinds = pairs(labels, classes, radius)
    positive, negative = affinity_losses(torch.sigmoid(logits[:, 0].float()), kinds, radius)
    foreground, background = displacement_losses(displacement.float(), kinds, radius)
    return {
        "positive affinity": positive / 2,
        "negative affinity": negative / 2,
        "displacement foreground": foreground / 2,
        "displacement background": background / 2,
    }
