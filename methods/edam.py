"""EDAM: maps that compete for every position, learnt by what two images of one class have in common.

Wu et al., Embedded Discriminative Attention Mechanism for Weakly Supervised Semantic Segmentation, CVPR 2021. A mask branch
scores every position for every class and for background; normalising over these channels makes them compete (implicit
competition). Each class's mask selects an embedding of the features, and a transformer block of that class looks at both images
of a pair and says whether each shows the class. At test time the masks are the maps, and no transformer is needed. Their pseudo
masks need saliency maps (`refiners.saliency`). We did not have the paper and follow the public code (allenwu97/EDAM):
* the masks are absolute values of the L2-normalised scores; background is the last channel;
* the backbone has no last ReLU (code: ResNet-38's), so that scores have both signs. Our seeds with MobileNetV2 need it: 42.1 and,
  with the ReLU, 27.8 (docs/results.md);
* all classes are classified in both images, whether shown or not;
* position codes are the same for both images and every class; a learnt vector tells the two images apart.
The code takes one pair for each GPU, of a list of pairs that is not public. Here a batch holds any number of pairs:
* `Pairs` orders an epoch so that every batch consists of pairs that share a class; see there;
* `partners` pairs what it finds in a batch or in a worker's share. An image that shares no class with another is its own partner.

The scores that add-ons read (`log_squares`) are logarithms of squared masks. The squares are not negative and sum to 1 over
channels, so they are the softmax of these scores. How the papers plug others in is unpublished. With ReCAM the network trains
further with ReCAM's loss beside its own. With LPCAM the default is LPCAM on CAM's network, because LPCAM's Table 2 has the same
seeds for it as for IRN; EDAM then adds its post-processing. `localisation` = mask takes EDAM's network and masks instead.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import backbones
from backbones.pointwise import PointwiseConv2d
from backbones.precision import MixedPrecision
from imagesets.item import Item
from imagesets.labelled_crop import LabelledCrop
from imagesets.views import mirror_sum
from maps.extraction import per_image
from maps.maps import Maps
from maps.reading import summed, unit_maximum
from methods import recam
from methods.class_attention import ClassAttention, position_codes
from training import optimisers
from training.examples import Chosen, Example
from training.over_epochs import over_epochs
from training.stage import Context, Losses, Outputs, PerImage, Settings, Training

HEADS = 2
SMALLEST = 1e-6  # mask whose logarithm is still taken


class MaskBranch(MixedPrecision, nn.Conv2d):
    """The 3x3 convolution from features [B,C,h,w] to scores [B,K+1,h,w], background last."""


class Embedding(MixedPrecision, PointwiseConv2d):
    """The 1x1 convolution from features [B,C,h,w] to vectors [B,D,h,w] that all classes share."""


class EDAM(nn.Module):
    """The mask branch, and the classification of pairs that teaches it."""

    def __init__(self, backbone: backbones.Backbone, classes: int, width: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.backbone, self.dropout, channels = backbone, nn.Dropout(dropout), backbone.channels[-1]
        self.mask_branch = MaskBranch(channels, classes + 1, 3, padding=1, bias=False)
        self.embedding = Embedding(channels, width, 1, bias=False)
        self.segments = nn.Parameter(torch.empty(2, width))  # tell the first image of a pair from the second
        self.attention = ClassAttention(classes, width, HEADS, dropout)
        self.classifier = nn.Parameter(torch.empty(classes, width))
        for weight in (self.mask_branch.weight, self.embedding.weight, self.segments):
            nn.init.xavier_uniform_(weight)
        nn.init.uniform_(self.classifier, -((6 / (width + 1)) ** 0.5), (6 / (width + 1)) ** 0.5)  # Xavier's rule for each class

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to the last feature map [B,C,h,w], without its ReLU."""
        return self.backbone(images)[-1]

    def masks(self, features: torch.Tensor) -> torch.Tensor:
        """Features [B,C,h,w] to masks [B,K+1,h,w], background last."""
        return competing(self.mask_branch(features))

    def pair_logits(self, features: torch.Tensor, masks: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """Logits [P,2,K] of both images of each pair, from features [B,C,h,w], masks [B,K+1,h,w] and indices `pairs` [P,2]."""
        embedded = class_tokens(self.embedding(features), masks[:, :-1])[:, pairs]  # [K,P,2,N,D]
        codes = position_codes(embedded.shape[3], embedded.shape[4], embedded) + self.segments[:, None]
        found = self.attention(self.dropout(embedded + codes).flatten(2, 3))
        pooled = found.unflatten(2, (2, -1)).mean(dim=3)
        return torch.einsum("kpsd,kd->psk", pooled, self.classifier)

    def probability(self, vectors: torch.Tensor, class_index: int) -> torch.Tensor:
        """Squared mask [N] of one class where each of the feature vectors [N,C] fills the map; all channels sum to 1."""
        scores = vectors @ self.mask_branch.weight.sum(dim=(2, 3)).T
        return functional.normalize(scores, dim=1)[:, class_index] ** 2


class CommonClassObjective(nn.Module):
    """The binary cross-entropy of all classes in both images of all pairs."""

    def __init__(self, network: EDAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop] and labels [B,K] in {0,1}.

        Outputs are features [B,C,h,w], scores [B,1+K,h,w], background first, and maps [B,K,h,w], the masks of the classes.
        """
        features = self.network.features(batch["image"])
        masks, pairs = self.network.masks(features), partners(batch["labels"])
        logits = of_images(self.network.pair_logits(features, masks, pairs), pairs)
        loss = functional.binary_cross_entropy_with_logits(logits, batch["labels"])
        outputs = {"features": features, "scores": log_squares(masks).roll(1, dims=1), "maps": masks[:, :-1]}
        return {"classification": loss}, outputs


def competing(scores: torch.Tensor) -> torch.Tensor:
    """Implicit competition: scores [B,K+1,h,w], L2-normalised over channels, without their signs."""
    return functional.normalize(scores, dim=1).abs()


def log_squares(masks: torch.Tensor) -> torch.Tensor:
    """Scores whose softmax over channels are the squares of masks [B,K+1,h,w] (up to `SMALLEST`)."""
    return 2 * masks.clamp(min=SMALLEST).log()


def class_tokens(embedded: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Vectors [B,D,h,w] at every position, multiplied by each class's mask [B,K,h,w]: [K,B,N,D]."""
    return embedded.flatten(2).mT[None] * masks.flatten(2).transpose(0, 1)[..., None]


def partners(labels: torch.Tensor) -> torch.Tensor:
    """Pairs [P,2] of images that share a class, from multi-hot labels [B,K]; each image is in one pair.

    The partner is the image half a batch later, as `Pairs` arranges them, if the two share a class; else the first later one that
    does. An image without one is paired with itself.
    """
    half, alike, found = len(labels) // 2, (labels @ labels.T > 0).tolist(), list[tuple[int, int]]()
    left = list(range(len(labels)))
    while left:
        own = left.pop(0)
        sharing = [other for other in left if alike[own][other]]
        other = own + half if own + half in sharing else next(iter(sharing), own)
        found.append((own, other))
        left = [place for place in left if place != other]
    return torch.tensor(found, device=labels.device)


def of_images(logits: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Logits [P,2,K] of pairs [P,2] to those of each image, [B,K]; of an image that is its own partner the mean of both."""
    images = pairs.flatten()
    counts = images.bincount()
    total = logits.new_zeros(len(counts), logits.shape[2]).index_add(0, images, logits.flatten(0, 1))
    return total / counts[:, None]


@dataclass(frozen=True)
class Pairs:
    """The examples of an epoch: pairs of items that share a class, so that the first half of a batch pairs with the second.

    This arrangement holds in every worker's share of a batch too, and in every part of it, if their sizes are even: the loop
    deals a batch out like cards, so both images of a pair, half a batch apart, fall to one share.
    """

    batch: int

    def __call__(self, items: Sequence[Item], rng: np.random.Generator) -> Sequence[Example]:
        pairs = matched([item.labels for item in items], rng.permutation(len(items)).tolist())
        # an item without a partner fills a pair alone; the pairs that are too many are left out, so epochs are equally long
        chosen = rng.permutation(len(pairs))[: max(1, len(items) // 2)]
        flat = [place for index in chosen for place in pairs[index]]
        batches = [flat[start : start + self.batch] for start in range(0, len(flat), self.batch)]
        return Chosen(items, np.array([place for own in batches for place in (*own[::2], *own[1::2])]))


def matched(labels: Sequence[Sequence[int]], order: Iterable[int]) -> list[tuple[int, int]]:
    """Pairs of places that share one of their `labels`, each place once; one that finds no other is paired with itself.

    In the given order, a place is paired with the one that waits for one of its classes, or else waits for all of them.
    """
    waiting, alone, found = dict[int, int](), dict[int, None](), list[tuple[int, int]]()
    for place in order:
        other = next((waiting[label] for label in labels[place] if label in waiting), None)
        if other is None:
            waiting |= dict.fromkeys(labels[place], place)
            alone[place] = None
        else:
            found.append((other, place))
            del alone[other]
            for label in labels[other]:
                del waiting[label]
    return [*found, *((place, place) for place in alone)]


def network(settings: Settings, classes: Sequence[str], weights: str = "none") -> EDAM:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    backbone = backbones.build(
        settings.backbone,
        stride=settings.stride,
        dilated=True,
        weights=weights,
        frozen_statistics=settings.weights != "none",
    )
    backbone.drop_last_rectifier()
    return EDAM(backbone, len(classes), settings.width, settings.dropout)


def training(context: Context) -> Training:
    """Train on pairs of images with image-level labels."""
    settings = context.settings
    module = network(settings, context.classes, settings.weights)
    if settings.weights != "none":
        module.backbone.freeze(settings.frozen)
    heads = [*module.mask_branch.parameters(), *module.embedding.parameters(), module.classifier]
    converged = [*module.backbone.parameters(), *module.attention.parameters(), module.segments]
    groups = optimisers.groups(settings.weight_decay, (converged, settings.lr), (heads, settings.head_lr))
    decay = partial(optimisers.warmed_up_poly, warm_up=settings.warm_up)
    objective, sample, pairs = CommonClassObjective(module), _sample(settings, context), Pairs(settings.batch)
    return over_epochs(context, module, objective, sample, groups, decay, pairs)


def retraining(context: Context) -> Training:
    """ReCAM's training of an EDAM network (word `network`), whose settings are the group `network`."""
    own, pairs = context.settings.network, Pairs(context.settings.batch)
    module = network(own, context.classes)
    if own.weights != "none":
        module.backbone.freeze(own.frozen)
    return recam.with_reactivation(context, module, CommonClassObjective(module), _sample(own, context), pairs)


def retrained(settings: Settings, classes: tuple[str, ...]) -> EDAM:
    """The network that `retraining` delivers, for trained weights to be loaded into."""
    return network(settings.network, classes)


def maps(context: Context) -> PerImage:
    """The masks of one image's own classes, summed over scales and mirror images."""
    module = context.inputs["network"]

    def class_maps(features: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return mirror_sum(module.masks(features)[:, keys])

    return per_image(context, class_maps)


def read(maps: Maps, full: bool) -> torch.Tensor:
    """The reader: the sum over scales, each resized straight to the wanted grid, divided by its maximum alone."""
    return unit_maximum(summed(maps, full), 0.0)


def _sample(own: Settings, context: Context) -> Callable[[Item, np.random.Generator], dict[str, torch.Tensor]]:
    return LabelledCrop(own.long_side, own.crop, len(context.classes), own.colour)
