"""SIPE: a prototype of each class in each image, found by the structure of the image, gives maps that cover the object.

Chen et al., Self-supervised Image-specific Prototype Exploration for Weakly Supervised Semantic Segmentation, CVPR 2022, section
3. A classifier's maps (general maps) are compared with what every position resembles: a position belongs to the class whose
map overlaps most with its row of the affinity matrix (seeds). The mean feature of a class's seeds is its prototype in this
image, and the cosine to the prototype is its image-specific map (IS-CAM). A loss (GSC) draws the two kinds of maps together. The
background is a class like the others, so the maps need no threshold.

Where the public code (chenqi1126/SIPE) and the text differ, we follow the code, because the published figures come from it:
* in training the affinities are those of the classifier's features, for maps those of the hierarchical feature;
* for maps, the classes that an image does not show compete for the seeds, and what they win belongs to nobody;
* a prototype is the mean over all positions of the image, which scales it and so changes no map;
* the rate of the released script is 0.1; the log of the first submission has 0.05. The script is our default, because its
  README gives the better figure (58.88 against 58.65 mIoU on train);
* SGD's momentum is 1e-4 (arguments in the wrong order).
Everything is on the grid of the last feature map, which at stride 16 is also layer3's, where the code has it. `frozen` = layer2
is the code's detached output of layer2. Without initial weights, statistics are live and nothing is frozen, as for CAM.
On COCO the public code makes masks by the CRF on confident labels instead of IRN (`sipe+crf` is the nearest expression here).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import backbones
from imagesets.crops import Crop
from imagesets.item import Item
from imagesets.labelled_crop import LabelledCrop
from imagesets.views import Loaded, pairs, sum_of_pairs
from maps.extraction import at_scales, own_maps
from maps.grids import resize
from maps.maps import Maps
from maps.normalising import with_own_background
from maps.reading import EPSILON, summed, unit_maximum
from methods import cam
from training import optimisers
from training.over_epochs import over_epochs
from training.stage import Context, Losses, Outputs, PerImage, Settings, Training

SIDES = (128, 128, 256, 256)  # channels that the last four feature maps give to the hierarchical feature
BACKGROUND = 0.5  # the overlap of the background map counts by half
ROWS = 1024  # of the affinity matrix that are in memory at a time


class SIPE(cam.Classifier):
    """A CAM network with a 1x1 convolution beside each of its last feature maps."""

    def __init__(self, backbone: backbones.Backbone, classes: int) -> None:
        super().__init__(backbone, classes)
        inputs = backbone.channels[-len(SIDES) :]
        self.sides = nn.ModuleList(
            nn.Conv2d(width, side, 1, bias=False) for width, side in zip(inputs, SIDES[-len(inputs) :], strict=True)
        )

    def scores_and_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalised images [B,3,H,W] to scores [B,K,h,w], the last feature map [B,C,h,w] and the hierarchical feature [B,D,h,w].

        The hierarchical feature sends no gradient to the backbone.
        """
        taps = self.backbone(images)
        sides = [side(tap.detach()) for side, tap in zip(self.sides, taps[-len(self.sides) :], strict=True)]
        return self.classifier(taps[-1]), taps[-1], hierarchical(sides)


class PrototypeObjective(nn.Module):
    """The classification loss, and `weight` times the mean difference of general and image-specific maps (GSC)."""

    def __init__(self, network: SIPE, weight: float) -> None:
        super().__init__()
        self.network, self.weight = network, weight

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop], labels [B,K] in {0,1} and covered uint8 [B,crop,crop], 1 inside the image.

        Outputs are features [B,C,h,w], scores [B,K,h,w] and their means, logits [B,K].
        """
        scores, features, hierarchy = self.network.scores_and_features(batch["image"])
        logits, shown = scores.mean(dim=(2, 3)), where_shown(batch["covered"], batch["labels"], scores.shape[2:])
        general = general_maps(scores) * shown
        own = prototypes(seeds(general, features, shown), hierarchy)
        losses = {
            "classification": cam.classification_loss(logits, batch["labels"], "bce"),
            "consistency": self.weight * (general - unit_maximum(specific_maps(hierarchy, own))).abs().mean(),
        }
        return losses, {"features": features, "scores": scores, "logits": logits}


def hierarchical(sides: Sequence[torch.Tensor]) -> torch.Tensor:
    """The hierarchical feature [B,D,h,w]: maps [B,D_k,h_k,w_k], each of unit vectors, on the grid of the last one."""
    return torch.cat([resize(_of_unit_length(side), sides[-1].shape[2:]) for side in sides], dim=1)


def where_shown(covered: torch.Tensor, labels: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Where a class can be: 1 inside the image for background and the image's own classes, float32 [B,1+K,h,w].

    `covered` uint8 [B,H,W] is 1 inside the image, `labels` are multi-hot [B,K].
    """
    inside = functional.interpolate(covered[:, None], size=tuple(grid), mode="nearest").to(labels)
    return inside * functional.pad(labels, (1, 0), value=1)[:, :, None, None]


def general_maps(scores: torch.Tensor) -> torch.Tensor:
    """CAMs of scores [B,K,h,w], each divided by its maximum, behind the background's map, 1 - the largest: [B,1+K,h,w]."""
    return with_own_background(unit_maximum(scores.relu()))


@torch.no_grad()
def overlaps(maps: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Soft intersection over union of each position's affinities with each class's map, [B,C,h,w]; the first, background, halved.

    `maps` are [B,C,h,w]. The affinity of two positions is the rectified cosine of their `features` [B,D,h,w]. One product serves
    all classes, and only `ROWS` rows of the affinity matrix are in memory.
    """
    vectors, planes = _of_unit_length(features).flatten(2), maps.flatten(2)
    columns = functional.pad(planes, (0, 0, 0, 1), value=1).transpose(1, 2)  # the last column sums up a row
    rows = (part.transpose(1, 2) @ vectors for part in vectors.split(ROWS, dim=2))
    products = torch.cat([affinities.relu_() @ columns for affinities in rows], dim=1).transpose(1, 2)
    common, sums = products[:, :-1], products[:, -1:]
    union = sums + planes.sum(dim=2, keepdim=True) - common
    shares = common / union.clamp_min(torch.finfo(union.dtype).tiny)
    shares[:, 0] *= BACKGROUND
    return shares.view_as(maps)


def seeds(maps: torch.Tensor, features: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Each position's class of largest overlap, where it is `shown`: maps [B,C,h,w] of 0 and 1, constants for the gradient.

    `maps` [B,C,h,w] and `features` [B,D,h,w] as for `overlaps`; `shown` is [B,C,h,w] or broadcasts to it.
    """
    best = overlaps(maps, features).argmax(dim=1)
    return functional.one_hot(best, maps.shape[1]).movedim(-1, 1) * shown


def prototypes(seeds: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The prototype of each class, [B,C,D]: the mean over all positions of `seeds` [B,C,h,w] times `features` [B,D,h,w]."""
    return seeds.flatten(2) @ features.flatten(2).transpose(1, 2) / seeds[0, 0].numel()


def specific_maps(features: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """IS-CAMs [B,C,h,w]: the rectified cosine of `features` [B,D,h,w] to `prototypes` [B,C,D]; 0 for a prototype of zeros."""
    cosines = functional.normalize(prototypes, dim=2) @ functional.normalize(features, dim=1).flatten(2)
    return cosines.relu().unflatten(2, features.shape[2:])


def maps_of_images(scores: torch.Tensor, hierarchy: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """IS-CAMs [B,1+K,h,w] of images whose background and classes are `shown` [B,1+K]; 0 for other classes.

    `scores` [B,K,h,w] and the hierarchical feature [B,D,h,w] are sums over image and mirror image.
    """
    own = seeds(general_maps(scores), hierarchy, shown[:, :, None, None])
    return specific_maps(hierarchy, prototypes(own, hierarchy))


def read(maps: Maps, full: bool) -> torch.Tensor:
    """The reader: the sum over scales, each map divided by its maximum; the first map is the background's."""
    return unit_maximum(summed(maps, full))


def network(settings: Settings, classes: tuple[str, ...]) -> SIPE:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return cam.build(SIPE, settings, classes, weights="none")


def training(context: Context) -> Training:
    """Train on image-level labels."""
    settings = context.settings
    module = cam.build(SIPE, settings, context.classes, settings.backbone.weights)
    if cam.pretrained(settings):
        module.backbone.freeze(settings.frozen)
    heads = [*module.classifier.parameters(), *module.sides.parameters()]
    parts = (module.backbone.parameters(), settings.lr), (heads, settings.head_lr)
    groups = optimisers.groups(settings.weight_decay, *parts)
    sample = CoveredCrop(settings.long_side, settings.crop, len(context.classes))
    own = over_epochs(context, module, PrototypeObjective(module, settings.consistency), sample, groups)
    return replace(own, optimiser=optimisers.clipped(own.optimiser, settings.clip))


class CoveredCrop(LabelledCrop):
    """Makes one training example with covered uint8 [crop,crop]: where the image lies in the crop."""

    def further(self, item: Item, rgb: np.ndarray, crop: Crop) -> dict[str, np.ndarray]:
        return {"covered": crop.covered().astype(np.uint8)}


def maps(context: Context) -> PerImage:
    """The image-specific maps of background and of one image's own classes, at every scale."""
    module, device, classes = context.inputs["network"], context.device, len(context.classes)

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        own = [functional.pad(loaded.labels.to(device, non_blocking=True) + 1, (1, 0)) for loaded in batch]
        shown = torch.stack([torch.zeros(1 + classes, device=device).index_fill_(0, places, 1) for places in own])
        found = [maps_of_images(*_sums(module, views), shown) for views in pairs(batch, device)]
        return [[planes[number, places] for planes in found] for number, places in enumerate(own)]

    return at_scales(context, compute, own_maps)


def _sums(module: SIPE, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [B,K,h,w] and hierarchical feature [B,D,h,w] of images and mirrors [B,2,3,H,W], added up."""
    scores, _, hierarchy = module.scores_and_features(views.flatten(0, 1))
    return sum_of_pairs(scores), sum_of_pairs(hierarchy)


def _of_unit_length(features: torch.Tensor) -> torch.Tensor:
    """Features [B,D,h,w], each vector divided by its length + 1e-5."""
    return features / (features.norm(dim=1, keepdim=True) + EPSILON)
