"""How views of an image, at several scales and mirrored, become one prediction: the rules of the public codes.

A rule also says how the code resizes images and logits, so each is the whole test of that code between image and CRF.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from maps.grids import resize
from segmentation.multi_scale import Resizing, largest


@dataclass(frozen=True)
class View:
    """Logits [B,L,h,w] of one scale, mirrored ones turned back, and the size (height, width) of the image that they are of."""

    logits: torch.Tensor
    size: Sequence[int]


@dataclass(frozen=True)
class Rule:
    """`fuse(views, size)` gives scores [B,L,*size] in 0..1; `resizing` is how images are resized."""

    fuse: Callable[[Sequence[View], Sequence[int]], torch.Tensor]
    resizing: Resizing


def max_logits(views: Sequence[View], size: Sequence[int]) -> torch.Tensor:
    """The maximum of logits on the grid of the first view, then enlarged."""
    return resize(largest([view.logits for view in views]), size).softmax(1)


def mean_logits(views: Sequence[View], size: Sequence[int]) -> torch.Tensor:
    """The mean of logits that were enlarged to their view and from there to `size`, both with aligned corners."""
    return torch.stack([_aligned(_aligned(view.logits, view.size), size) for view in views]).mean(0).softmax(1)


def mean_softmax(views: Sequence[View], size: Sequence[int]) -> torch.Tensor:
    """The mean of probabilities, each made of logits that were enlarged to their view and from there to `size`."""
    return torch.stack([resize(resize(view.logits, view.size), size).softmax(1) for view in views]).mean(0)


def mean_view_softmax(views: Sequence[View], size: Sequence[int]) -> torch.Tensor:
    """The mean of probabilities that were made at the size of their view and enlarged to `size`."""
    return torch.stack([resize(resize(view.logits, view.size).softmax(1), size) for view in views]).mean(0)


def max_softmax(views: Sequence[View], size: Sequence[int]) -> torch.Tensor:
    """The maximum of probabilities; these scores do not sum to one, and the CRF gets them as they are."""
    return torch.stack([resize(view.logits, size).softmax(1) for view in views]).amax(0)


RULES: Mapping[str, Rule] = {
    "max_logits": Rule(max_logits, Resizing()),  # kazuto1011/deeplab-pytorch
    "mean_logits": Rule(mean_logits, Resizing("bicubic", rounding="half even")),  # SEAM's segmenter, HFPL: OpenCV by a factor
    "mean_softmax": Rule(mean_softmax, Resizing(rounding="half up", by_factor=False)),  # mmsegmentation, there on uint8
    "mean_view_softmax": Rule(mean_view_softmax, Resizing(by_factor=False)),  # RecurSeed
    "max_softmax": Rule(max_softmax, Resizing(align_corners=True)),  # MCTformer
}


def _aligned(logits: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=True)
