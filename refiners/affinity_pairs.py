"""Affinities of pairs of nearby cells, and what AffinityNet learns of them.

Ahn and Kwak, Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised Semantic Segmentation,
CVPR 2018. The affinity of two cells is exp(-mean over channels of |u(i) - u(j)|), of pairs nearer than a radius. As in the public
code, a pair starts at an anchor (`pair_geometry`), in the walk as well as in training: cells near the border are only ends.

The features of all pairs are 68 times those of an image. So differences are taken direction by direction, forward and backward,
and the backward pass keeps the features alone.
"""

from collections.abc import Iterator
from typing import Any

import torch

from refiners.irn_losses import BACKGROUND, DIFFERENT, EPSILON, FOREGROUND, pair_kinds
from refiners.pair_geometry import anchors, directions


def reachable(size: tuple[int, ...], radius: int) -> int:
    """The radius of pairs on a grid of `size` (height, width): `radius`, or (shorter side - 1) // 2 if that is less."""
    return max(1, min(radius, (min(size) - 1) // 2))


def affinities(features: torch.Tensor, radius: int) -> torch.Tensor:
    """The affinity of every pair from an anchor: features [B,C,h,w] to planes [directions,B,rows,columns]."""
    return torch.exp(-_Distances.apply(features, radius))  # type: ignore[no-untyped-call]


class _Distances(torch.autograd.Function):
    """The mean absolute difference of the features of every pair from an anchor, as planes [directions,B,rows,columns]."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, radius: int) -> torch.Tensor:
        cells = features.permute(0, 2, 3, 1).contiguous()  # the memory of channels-last features
        ctx.save_for_backward(cells)
        ctx.radius = radius
        rows, columns = anchors(cells.shape[1:3], radius)
        found = cells.new_empty(len(directions(radius)), len(cells), rows.stop - rows.start, columns.stop - columns.start)
        for images, planes in zip(_few(cells), _few(found, dim=1), strict=True):
            for (start, end), plane in zip(_ends(images, radius), planes, strict=True):
                plane.copy_((end - start).abs_().mean(dim=-1))
        return found

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        (cells,) = ctx.saved_tensors
        total = torch.zeros_like(cells)
        shares = gradient[..., None] / cells.shape[-1]
        for images, sums, own in zip(_few(cells), _few(total), _few(shares, dim=1), strict=True):
            pairs = zip(_ends(images, ctx.radius), _ends(sums, ctx.radius), own, strict=True)
            for (start, end), (start_sum, end_sum), share in pairs:
                pull = (end - start).sign_().mul_(share)
                end_sum += pull
                start_sum -= pull
        return total.permute(0, 3, 1, 2), None


def _few(tensor: torch.Tensor, dim: int = 0) -> tuple[torch.Tensor, ...]:
    """Parts of a batch: one image at a time fits a CPU's cache (a tenth of the time); a GPU wants few large kernels."""
    return tensor.split(1 if tensor.device.type == "cpu" else max(1, tensor.shape[dim]), dim)


def _ends(cells: torch.Tensor, radius: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Both ends of the pairs of each direction, as views [B,rows,columns,C] of cells [B,h,w,C]."""
    rows, columns = anchors(cells.shape[1:3], radius)
    for dy, dx in directions(radius):
        yield cells[:, rows, columns], cells[:, rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx]


def kinds_of_pairs(labels: torch.Tensor, classes: int, radius: int) -> torch.Tensor:
    """The kind of every pair from an anchor: labels [B,h,w] (0 background, over `classes` unknown) to planes."""
    return pair_kinds(labels, classes, radius)[:, :, *anchors(labels.shape[1:], radius)]


def losses(affinity: torch.Tensor, kinds: torch.Tensor) -> dict[str, torch.Tensor]:
    """The three named losses of affinities and kinds of pairs, planes of equal shape, each with its weight.

    -log(a) over pairs of background (a quarter) and over pairs of one class (a quarter), -log(1 - a) over pairs of different
    labels (a half). Each is a mean over the pairs of the batch (of a share, if workers or parts share it); over none it is 0.
    """
    equal, different = -torch.log(affinity + EPSILON), -torch.log(1 + EPSILON - affinity)
    return {
        "background affinity": _mean(equal, kinds == BACKGROUND) / 4,
        "foreground affinity": _mean(equal, kinds == FOREGROUND) / 4,
        "negative affinity": _mean(different, kinds == DIFFERENT) / 2,
    }


def _mean(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return (values * chosen).sum() / (chosen.sum() + EPSILON)
