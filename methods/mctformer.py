"""MCTformer: a vision transformer with one class token per class, whose attention to the patches localises the class.

Xu, Ouyang, Bennamoun, Boussaid and Xu, Multi-class Token Transformer for Weakly Supervised Semantic Segmentation, CVPR 2022.
We follow the public code of its versions 1 and 2.
* Version 1: the logit of a class is the mean of its class token. Its map is the attention of the token to the patches.
* Version 2 (default) adds a 3x3 convolution on the patch tokens, whose scores are averaged to patch logits. A class's map is its
  token's attention times its rectified patch scores.
Both refine the maps by the attention between patches, summed over all blocks. No layer norm follows the last block.

From scratch on few images patches are not alike where they look at each other: background looks at objects, so the refinement
turns maps inside out, and patch scores are high all over the image. The attention of the class tokens finds the objects, so
`localisation` can stop at it, and does for `shapes`.

The score map that add-ons read is the patch scores, and the loss named `classification` is the patch branch's: it is the one that
averages a score map. HFPL does not say what it used; its 14x14 maps of MCTformer are the patch scores. The loss of the class
tokens has no positions, so it stays as it is and has a name of its own. Version 1 has no score map.

Unlike the code:
* at test time an image is stretched to whole patches (the code cuts off what is left over and stretches the maps);
* image-level logits are the mean of both branches.
The rate changes once an epoch, as timm's does. Norms, biases, class tokens and position codes do not decay (timm).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import backbones
from backbones.augmenting import Augmentation
from backbones.precision import MixedPrecision
from imagesets.item import Item
from imagesets.views import Loaded, mirror_sum, pairs
from maps.extraction import at_scales, linear_maps
from maps.maps import Maps
from maps.reading import summed, unit_range
from training import optimisers
from training.optimisers import Schedule
from training.stage import Context, Losses, Outputs, PerImage, Settings, Training

FIRST, LAST = 1e-6, 1e-5  # rates at which the warm-up begins and the cosine ends (DeiT's)
EPSILON = 1e-8  # added to the range of a map before a division by it


class PatchHead(MixedPrecision, nn.Conv2d):
    """The 3x3 convolution from patch tokens [B,C,h,w] to patch scores [B,K,h,w]."""


class MCTformer(nn.Module):
    """A transformer with `classes` class tokens and, in version 2, the patch head."""

    def __init__(self, backbone: backbones.TokenBackbone, classes: int, version: int) -> None:
        super().__init__()
        self.backbone, self.classes = backbone, classes
        self.head = PatchHead(backbone.channels[-1], classes, 3, padding=1) if version == 2 else None

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to the patch tokens of the last block [B,C,h,w]."""
        return self._last(images).patches

    def branches(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Normalised images [B,3,H,W] to class-token logits [B,K] and patch scores [B,K,h,w] (None in version 1)."""
        last = self._last(images)
        return token_logits(last.classes), None if self.head is None else self.head(last.patches)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to logits [B,K]: the mean of both branches."""
        logits, scores = self.branches(images)
        return logits if scores is None else (logits + patch_logits(scores)) / 2

    def maps(self, images: torch.Tensor, keys: torch.Tensor, settings: Settings) -> torch.Tensor:
        """Maps [B,n,h,w] of the classes `keys` [n], as the settings `blocks`, `attention_power` and `localisation` say.

        "attention": that of class tokens in the last `blocks` blocks, to a power; "fused": that times the rectified patch scores;
        "refined": that refined by the attention between patches.
        """
        found = self.backbone.tokens(images, range(self.backbone.blocks))
        attentions = [tokens.attention.mean(dim=1) for tokens in found]
        patches = found[-1].patches
        maps = class_attention(attentions[-settings.blocks :], self.classes)[:, keys].unflatten(2, patches.shape[2:])
        maps = maps**settings.attention_power
        if self.head is not None and settings.localisation != "attention":
            maps = maps * self.head(patches)[:, keys].relu()
        return refined(maps, patch_affinity(attentions, self.classes)) if settings.localisation == "refined" else maps

    def probability(self, vectors: torch.Tensor, class_index: int) -> torch.Tensor:
        """Softmax probability [N] of one class for feature vectors [N,C]: the patch head's answer to a constant map of each."""
        assert self.head is not None  # the recipe of version 1 does not provide it
        return functional.linear(vectors, self.head.weight.sum(dim=(2, 3)), self.head.bias).softmax(dim=1)[:, class_index]

    def _last(self, images: torch.Tensor) -> backbones.Tokens:
        return self.backbone.tokens(images, [self.backbone.blocks - 1])[0]


def token_logits(tokens: torch.Tensor) -> torch.Tensor:
    """Class tokens [B,K,C] to logits [B,K]."""
    return tokens.mean(dim=2)


def patch_logits(scores: torch.Tensor) -> torch.Tensor:
    """Patch scores [B,K,h,w] to logits [B,K]."""
    return scores.mean(dim=(2, 3))


def class_attention(attentions: Sequence[torch.Tensor], classes: int) -> torch.Tensor:
    """The attention of class tokens to patches, summed over blocks: each [B,N,N] (class tokens first) to [B,K,N-K]."""
    return torch.stack([attention[:, :classes, classes:] for attention in attentions]).sum(dim=0)


def patch_affinity(attentions: Sequence[torch.Tensor], classes: int) -> torch.Tensor:
    """The attention of patches to patches, summed over blocks: each [B,N,N] (class tokens first) to [B,N-K,N-K]."""
    return torch.stack([attention[:, classes:, classes:] for attention in attentions]).sum(dim=0)


def refined(maps: torch.Tensor, affinity: torch.Tensor) -> torch.Tensor:
    """Each cell of maps [B,n,h,w] becomes the sum of all cells, weighted by its row of the affinity [B,h*w,h*w]."""
    return torch.einsum("bij,bnj->bni", affinity, maps.flatten(2)).view(maps.shape)


def read(maps: Maps, full: bool) -> torch.Tensor:
    """Reads the stored maps: the sum over scales, from 0 to 1."""
    return unit_range(summed(maps, full), EPSILON)


class TokenObjective(nn.Module):
    """The binary cross-entropy of both branches; version 1 has that of the class tokens alone."""

    def __init__(self, network: MCTformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop] and labels [B,K] in {0,1}; outputs are the patch scores [B,K,h,w]."""
        logits, scores = self.network.branches(batch["image"])
        return losses(logits, scores, batch["labels"]), {} if scores is None else {"scores": scores}


def losses(logits: torch.Tensor, scores: torch.Tensor | None, labels: torch.Tensor) -> Losses:
    """The mean binary cross-entropies of class-token logits [B,K] and of patch scores [B,K,h,w], or of the first alone."""
    tokens = functional.binary_cross_entropy_with_logits(logits, labels)
    if scores is None:
        return {"classification": tokens}
    return {"classification": functional.binary_cross_entropy_with_logits(patch_logits(scores), labels), "class_tokens": tokens}


def network(settings: Settings, classes: tuple[str, ...], weights: str = "none") -> MCTformer:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    own = {"class_tokens": len(classes), "drop_path": settings.drop_path}
    backbone = backbones.build(settings.backbone, weights=weights, frozen_statistics=True, **own)
    assert isinstance(backbone, backbones.TokenBackbone)  # its recipe provides tokens
    return MCTformer(backbone, len(classes), settings.version)


def training(context: Context) -> Training:
    """Train both branches and the transformer on image-level labels."""
    settings = context.settings
    module = network(settings, context.classes, settings.weights)
    per_epoch = optimisers.steps(len(context.items), settings.batch, epochs=1)
    augmentation = Augmentation(settings.crop, (settings.least_area, 1.0), settings.policy, settings.erasing)
    return Training(
        network=module,
        objective=TokenObjective(module),
        sample=AugmentedImage(augmentation, len(context.classes)),
        optimiser=optimisers.build("adamw", _groups(module, settings.lr, settings.weight_decay)),
        schedule=warmed_up_cosine(settings.lr, per_epoch, settings.epochs, settings.warm_up),
        batch=settings.batch,
        steps=per_epoch * settings.epochs,
    )


def _groups(module: MCTformer, lr: float, weight_decay: float) -> list[dict]:
    """Matrices and filters decay; tokens, position codes, norms and biases do not."""
    codes = ("backbone.class_", "backbone.positions")
    decay = {name: value.ndim > 1 and not name.startswith(codes) for name, value in module.named_parameters()}
    return [
        {"params": [value for name, value in module.named_parameters() if decay[name] == own], "lr": lr, "weight_decay": rate}
        for own, rate in ((True, weight_decay), (False, 0.0))
    ]


def warmed_up_cosine(lr: float, per_epoch: int, epochs: int, warm_up: int) -> Schedule:
    """Factors on the rate `lr`, one for each epoch: up from 1e-6 / lr to 1 in `warm_up` epochs, then a cosine to 1e-5 / lr."""
    first, last = (min(1.0, rate / lr) if lr else 1.0 for rate in (FIRST, LAST))

    def factor(step: int) -> float:
        epoch = step // per_epoch
        if epoch < warm_up:
            return first + (1 - first) * epoch / warm_up
        return last + (1 - last) * (1 + cos(pi * epoch / epochs)) / 2

    return factor


@dataclass(frozen=True)
class AugmentedImage:
    """Makes one training example: image float32 [3,crop,crop], normalised, and multi-hot labels float32 [K]."""

    augmentation: Augmentation
    classes: int

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"image": self.augmentation(item.rgb(), rng), "labels": torch.from_numpy(item.multi_hot(self.classes))}


def maps(context: Context) -> PerImage:
    """The maps of one image's own classes, of image and mirror at every scale."""
    settings, module, device = context.settings, context.inputs["network"], context.device

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        grids: list[list[torch.Tensor]] = [[] for _ in batch]
        keys = [loaded.labels.to(device, non_blocking=True) for loaded in batch]
        for views in pairs(batch, device):
            # one pair after the other: the attention of all blocks takes 0.4 GB for a pair of 375 x 500
            for own, pair, labels in zip(grids, views, keys, strict=True):
                whole = to_whole_patches(pair, module.backbone.strides[-1])
                own.append(mirror_sum(module.maps(whole, labels, settings)))
        return grids

    return at_scales(context, compute, linear_maps)


def to_whole_patches(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images [B,3,H,W] stretched to the next whole number of patches in each direction, so that their grid covers all of them."""
    height, width = (-(-extent // side) * side for extent in images.shape[2:])
    return functional.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)
