"""Saliency Grafting: salient cells of one image are pasted on another, and labels count by the saliency that stays visible.

Park, Yang, Shin, Song, Shin, Saliency Grafting: Innocuous Attribution-Guided Mixup with Calibrated Label Mixing, AAAI 2022. RSEPM
(Jo, Yu and Kim, arXiv 2204.06754, Table 4) compares it with its own mixing. There is no public code of either, so these are our
choices:
* the saliency of an image is the highest rectified score of the classes that it shows, in each cell of the score map (RSEPM:
  "predicted masks"; no gradient flows through it);
* a softmax over cells, at `temperature`, makes it a distribution. Cells above the mean are candidates, and each is pasted with
  `probability`;
* an image's label counts by the share of its saliency, as a norm, that stays visible; the two counts are divided by their sum;
* the partners of a step are a permutation of the batch. The loss of the mixtures comes beside that of the network.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from maps.score_maps import foreground_scores, score_map
from training.mixing import mixed_classification, mixing, pasted
from training.stage import Context, Losses, Outputs, Training
from training.transfer import Batch


def saliency(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The highest rectified score of the classes that an image shows: scores [B,K,h,w] and labels [B,K] to [B,h,w]."""
    return (scores.detach().relu() * labels[:, :, None, None]).amax(dim=1)


def distribution(saliency: torch.Tensor, temperature: float) -> torch.Tensor:
    """The softmax over the cells of saliencies [...,h,w], each divided by its maximum."""
    cells = saliency.flatten(-2)
    peaks = cells.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(cells.dtype).tiny)
    return (cells / peaks / temperature).softmax(dim=-1).view_as(saliency)


def grafted_cells(saliency: torch.Tensor, drawn: torch.Tensor, temperature: float) -> torch.Tensor:
    """The cells of saliencies [...,h,w] that are pasted: those above the mean of the distribution that were `drawn` (0 or 1)."""
    shares = distribution(saliency, temperature)
    return (shares > shares.mean(dim=(-2, -1), keepdim=True)) & drawn.bool()


def visible_share(saliency: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """The norm of the saliency [...,h,w] that is `visible` [...,h,w], divided by that of all of it; 0 if there is none."""
    seen, all_of_it = ((part.flatten(-2)).norm(dim=-1) for part in (saliency * visible, saliency))
    return seen / all_of_it.clamp(min=torch.finfo(saliency.dtype).tiny)


def label_weight(below: torch.Tensor, grafted: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Lambda, the weight of the label of the image that is pasted on; that of the pasted image is 1 - lambda.

    Saliencies are [...,h,w]; `cells` hide the first image and show the second. It is 1 if nothing salient is visible.
    """
    kept, added = visible_share(below, ~cells), visible_share(grafted, cells)
    return torch.where(kept + added > 0, kept / (kept + added), 1)


def mix(batch: Batch, outputs: Outputs, network: nn.Module, probability: float, temperature: float) -> Losses:
    """The loss of the images of a batch, each with salient cells of another."""
    images, labels, order = batch["image"], batch["labels"], torch.randperm(len(batch["image"]))
    below = saliency(foreground_scores(score_map(network, outputs), labels.shape[1]), labels)
    drawn = torch.rand(below.shape).to(below.device) < probability
    cells = grafted_cells(below[order], drawn, temperature)
    mask = functional.interpolate(cells[:, None].float(), size=images.shape[2:], mode="nearest")[:, 0] > 0
    weight = label_weight(below, below[order], cells)[:, None]
    mixed = pasted(images[order], images, mask)
    return mixed_classification(network, mixed, weight * labels + (1 - weight) * labels[order])


def adding(training: Training, context: Context) -> Training:
    """The mixing `saliency-grafting`."""
    settings = getattr(context.settings, "saliency-grafting")
    own = {"probability": settings.probability, "temperature": settings.temperature}
    return mixing(training, context, settings, partial(mix, network=training.network, **own))
