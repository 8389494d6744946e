"""CutMix: a box of one image is pasted on another, and their labels are mixed by area.

Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019. RSEPM (Jo, Yu and
Kim, arXiv 2204.06754, Table 4) compares it with its own mixing and gives no details. As in the public code of CutMix
(clovaai/CutMix-PyTorch), a step has one box and one permutation of the batch, and the share lambda of the image that stays is
that of the box as it was clipped.

Unlike the code, the network also learns from the images as they are, as with all mixings of RSEPM: the loss of the mixtures comes
beside that of the network. It is the binary cross-entropy with the mixed labels.
"""

from collections.abc import Sequence
from functools import partial
from math import sqrt

import torch
from torch import nn

from imagesets.crops import Box
from training.mixing import mixed_classification, mixing
from training.stage import Context, Losses, Outputs, Training
from training.transfer import Batch


def box(size: Sequence[int], share: float, centre: Sequence[int]) -> Box:
    """The box in an image of `size` (height, width) around `centre` (row, column), whose area without clipping is 1 - `share`."""
    halves = [int(side * sqrt(1 - share)) // 2 for side in size]
    top, left = (max(0, place - half) for place, half in zip(centre, halves, strict=True))
    bottom, right = (min(side, place + half) for side, place, half in zip(size, centre, halves, strict=True))
    return top, left, bottom, right


def share_outside(size: Sequence[int], box: Box) -> float:
    """Lambda, the share of an image of `size` that lies outside of the box."""
    top, left, bottom, right = box
    return 1 - (bottom - top) * (right - left) / (size[0] * size[1])


def cut_and_pasted(images: torch.Tensor, order: torch.Tensor, box: Box) -> torch.Tensor:
    """Images [B,3,H,W], in each of which the box is that of the image at its place in `order` [B]."""
    top, left, bottom, right = box
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[order, :, top:bottom, left:right]
    return mixed


def mix(batch: Batch, outputs: Outputs, network: nn.Module, beta: float) -> Losses:
    """The loss of the images of a batch, each with one box of another; lambda is drawn from Beta(beta, beta)."""
    images, labels, order = batch["image"], batch["labels"], torch.randperm(len(batch["image"]))
    size, drawn = images.shape[2:], torch.distributions.Beta(beta, beta).sample()
    found = box(size, float(drawn), [int(torch.randint(side, ())) for side in size])
    share = share_outside(size, found)
    mixed = cut_and_pasted(images, order, found)
    return mixed_classification(network, mixed, share * labels + (1 - share) * labels[order])


def adding(training: Training, context: Context) -> Training:
    """The mixing `cutmix`."""
    settings = context.settings.cutmix
    return mixing(training, context, settings, partial(mix, network=training.network, beta=settings.beta))
