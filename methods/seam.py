"""SEAM: maps that stay the same when an image is scaled, refined by what looks alike.

Wang et al., Self-supervised Equivariant Attention Mechanism for Weakly Supervised Semantic Segmentation, CVPR 2020. A classifier
sees an image and the image at 0.3 of its size. Both must give equal maps (equivariant regularisation, ER). The maps of each
view, refined by the pixel correlation module (PCM, `maps.pixel_correlation`), must equal the maps of the other view (equivariant
cross regularisation, ECR). The refined maps are the seeds. We follow the public code (YudeWang/SEAM, and HFPL on top of it):
* SGD's momentum is 5e-4 (arguments in the wrong order);
* a class's score is the mean of its map enlarged to the view, where cells at the border count less;
* one more loss draws the refined maps to 0 in the quarter of an image where they are lowest (code: rvmin);
* gradient of refined maps reaches the layers of PCM alone; ECR counts the fifth of all entries that differ most.
The published threshold of seeds is the best of a curve on ground truth. Ours is the 0.25 at which HFPL scores contours.

Only the maps of background and of the image's own classes are not 0. So the losses work on n classes of each image, n being the
largest number of classes in an image of the batch; results are the same.
PCM compares what is in the image and in the two taps before the last, on the grid of the last (`resnet38d`: conv4, conv5 and
conv6). Without initial weights, statistics are live and nothing is frozen, as for CAM.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import backbones
from imagesets.item import Item
from imagesets.labelled_crop import LabelledCrop
from imagesets.transforms import scaled
from imagesets.views import Loaded, pairs, sum_of_pairs
from maps.extraction import at_scales, own_maps
from maps.grids import resize
from maps.maps import Maps
from maps.normalising import competing, highest_alone, max_normalised, min_max_normalised, with_own_background
from maps.pixel_correlation import correlated
from methods import cam
from training.over_epochs import over_epochs
from training.parameter_groups import by_origin
from training.stage import Context, Losses, Outputs, PerImage, Settings, Training

HARDEST = 0.2  # the share of entries that ECR counts
LOWEST = 4  # one in so many positions counts as background that the image has for certain


class SEAM(cam.Classifier):
    """A classifier of every position, background first, and PCM beside it."""

    def __init__(self, backbone: backbones.Backbone, classes: int, dropout: float = 0.5) -> None:
        super().__init__(backbone, 1 + classes)  # the classifier is fc8 of the public code
        self.dropout = nn.Dropout2d(dropout)
        middle, late, _ = backbone.channels[-3:]
        self.middle = nn.Conv2d(middle, 64, 1, bias=False)  # f8_3
        self.late = nn.Conv2d(late, 128, 1, bias=False)  # f8_4
        self.joint = nn.Conv2d(3 + 64 + 128, 192, 1, bias=False)  # f9
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.kaiming_normal_(self.middle.weight)
        nn.init.kaiming_normal_(self.late.weight)
        nn.init.xavier_uniform_(self.joint.weight, gain=4)

    @property
    def weights(self) -> torch.Tensor:
        """The classifier's weights of the classes, [K,C]."""
        return self.classifier.weight[1:].flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to logits [B,K]."""
        return mean_when_resized(self.classifier(self.features(images))[:, 1:], images.shape[-2:])

    def maps(self, images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images [B,3,H,W] and n classes of each, [B,n], to scores and refined maps.

        The scores are logits [B,1+K,h,w], the refined maps [B,1+n,h,w]; background is first in both.
        """
        *_, middle, late, last = self.backbone(images)
        scores = self.classifier(self.dropout(last))
        # what PCM compares; the backbone gets no gradient from it
        parts = images, self.middle(middle.detach()).relu(), self.late(late.detach()).relu()
        compared = self.joint(torch.cat([resized(part, scores.shape[-2:]) for part in parts], dim=1))
        return scores, correlated(own_planes(competing(scores), keys), compared)


class View(NamedTuple):
    """One view of a batch: logits [B,1+K,h,w], refined maps of each image's n classes [B,1+n,h,w], and the view's size."""

    scores: torch.Tensor
    refined: torch.Tensor
    size: Sequence[int]


class EquivarianceObjective(nn.Module):
    """The losses of an image and of the same image at `factor` of its size."""

    def __init__(self, network: SEAM, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop] and labels [B,K] in {0,1}.

        The output `scores` [B,1+K,h,w] is the logits of the first view, background first.
        """
        images, labels = batch["image"], batch["labels"]
        smaller = resized(images, [max(1, int(side * self.factor)) for side in images.shape[-2:]])
        keys, shown = own_classes(labels)
        first, second = (View(*self.network.maps(view, keys), view.shape[-2:]) for view in (images, smaller))
        return losses(first, second, labels, keys, shown), {"scores": first.scores}


def losses(first: View, second: View, labels: torch.Tensor, keys: torch.Tensor, shown: torch.Tensor) -> Losses:
    """The weighted losses of two views from multi-hot labels [B,K] and their `own_classes`.

    `classification` is that of the first view alone.
    """
    views, classes = (first, second), labels.shape[1]
    maps = [normalised(own_planes(view.scores, keys)[:, 1:], view.size, second.size, shown) for view in views]
    refined = [normalised(view.refined, view.size, second.size, shown_with_background(shown)) for view in views]
    certain = [with_own_background(highest_alone(own)).detach() for own in maps]
    return {
        "classification": classification(first, labels) / 2,
        "second_classification": classification(second, labels) / 2,
        "background": (lowest(first, shown) + lowest(second, shown)) / 2,
        "equivariance": (maps[0] - maps[1]).abs().mean(dim=(0, 2, 3)).sum() / classes,
        "cross_equivariance": hardest(certain[1] - refined[0], 1 + classes) + hardest(certain[0] - refined[1], 1 + classes),
    }


def classification(view: View, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the mean of each class's map [B,1+K,h,w], enlarged to the view."""
    return functional.binary_cross_entropy_with_logits(mean_when_resized(view.scores[:, 1:], view.size), labels)


def lowest(view: View, shown: torch.Tensor) -> torch.Tensor:
    """The mean over a quarter of all positions, where the highest refined map of the classes `shown` [B,n] is lowest."""
    highest = (resized(view.refined[:, 1:], view.size) * shown[:, :, None, None]).amax(dim=1).flatten(1)
    count = highest.shape[1] // LOWEST
    return highest.topk(count, largest=False, sorted=False).values.relu().sum() / (len(highest) * max(1, count))


def normalised(maps: torch.Tensor, view: Sequence[int], size: Sequence[int], shown: torch.Tensor) -> torch.Tensor:
    """Maps [B,n,h,w] enlarged to their `view`, normalised there, then at `size`; 0 for classes that are not `shown` [B,n]."""
    return resized(max_normalised(resized(maps, view)), size) * shown[:, :, None, None]


def hardest(differences: torch.Tensor, channels: int) -> torch.Tensor:
    """The mean of the fifth of an image's entries with the largest magnitudes, then the mean over images.

    `differences` are [B,m,h,w] of m among all `channels`; all others are 0.
    """
    magnitudes = differences.abs().flatten(1)
    count = int(HARDEST * channels * differences[0, 0].numel())
    if count < magnitudes.shape[1]:
        magnitudes = magnitudes.topk(count, sorted=False).values
    return magnitudes.sum() / (len(differences) * max(1, count))


def own_classes(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Multi-hot labels [B,K] to classes [B,n] that hold all of each image, and which of these it shows, 1 or 0 [B,n]."""
    most = max(1, int(labels.sum(dim=1).max()))
    shown, keys = labels.topk(most, dim=1)
    return keys, shown


def shown_with_background(shown: torch.Tensor) -> torch.Tensor:
    """Which of [background, classes] an image shows, [B,1+n]: background always."""
    return torch.cat([torch.ones_like(shown[:, :1]), shown], dim=1)


def own_planes(planes: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The planes [B,1+n,h,w] of background and of n classes of each image, `keys` [B,n], from [B,1+K,h,w]."""
    places = torch.cat([torch.zeros_like(keys[:, :1]), keys + 1], dim=1)[:, :, None, None]
    return planes.gather(1, places.expand(-1, -1, *planes.shape[2:]))


def resized(planes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear resize of [B,C,h,w] to (height, width), with aligned corners."""
    return functional.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=True)


def mean_when_resized(planes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The means [B,C] of planes [B,C,h,w] that would be resized to (height, width); the large planes are never made."""
    rows, columns = (
        functional.interpolate(
            torch.eye(cells, dtype=planes.dtype, device=planes.device)[None], size=extent, mode="linear", align_corners=True
        )[0]
        for cells, extent in zip(planes.shape[-2:], size, strict=True)
    )
    return torch.einsum("bchw,h,w->bc", planes, rows.mean(dim=1), columns.mean(dim=1))


def network(settings: Settings, classes: Sequence[str], weights: str = "none") -> SEAM:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    backbone = backbones.build(
        settings.backbone.name,
        stride=settings.stride,
        dilated=True,
        weights=weights,
        frozen_statistics=cam.pretrained(settings),
    )
    return SEAM(backbone, len(classes), settings.dropout)


def training(context: Context) -> Training:
    """Train both views on image-level labels."""
    settings = context.settings
    sample = LabelledCrop(settings.long_side, settings.crop, len(context.classes), settings.colour)
    return learning(context, sample)


def learning(context: Context, sample: Callable[[Item, np.random.Generator], dict[str, torch.Tensor]]) -> Training:
    """Train both views of what `sample` makes, image RGBA uint8 [4,crop,crop] and labels [K] (PMM has another sample)."""
    settings = context.settings
    module = network(settings, context.classes, settings.backbone.weights)
    if cam.pretrained(settings):
        module.backbone.freeze(settings.frozen)
    groups = by_origin(module, module.backbone, settings.lr, settings.head_lr, settings.weight_decay)
    return over_epochs(context, module, EquivarianceObjective(module, settings.view_scale), sample, groups)


def maps(context: Context) -> PerImage:
    """The refined maps of one image's own classes, summed over image and mirror image, at every scale."""
    network, scales, device = context.inputs["network"], context.settings.scales, context.device

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        grids: list[list[torch.Tensor]] = [[] for _ in batch]
        keys = nn.utils.rnn.pad_sequence([loaded.labels for loaded in batch], batch_first=True).to(device, non_blocking=True)
        for views in pairs(batch, device):
            refined = sum_of_pairs(network.maps(views.flatten(0, 1), keys.repeat_interleave(2, dim=0))[1][:, 1:])
            for loaded, own, planes in zip(batch, grids, refined, strict=True):
                own.append(planes[: len(loaded.labels)])
        return grids

    return at_scales(context, compute, partial(own_maps, scales=np.array(scales)))


def read(maps: Maps, full: bool) -> torch.Tensor:
    """The reader: every grid enlarged to its view, then at the wanted size; the sum over scales from 0 to 1.

    Rounding leaves values in the public code that are a little below 0; here they are 0.
    """
    views = (scaled(maps.size, scale) for scale in maps.extras["scales"])
    planes = [resize(resized(grid[None], view)[0], maps.extent(full)) for grid, view in zip(maps.tensors(), views, strict=True)]
    return min_max_normalised(sum(planes[1:], planes[0])).clamp(min=0)
