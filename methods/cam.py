"""CAM: class activation maps of a multi-label classifier, the seeds that most methods start from.

Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016 (Eq. 1-2); trained and extracted as in
Ahn et al., Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (IRN), CVPR 2019.

Where the public IRN code departs from the papers we follow the code, because published figures come from it:
* a map is divided by its maximum + 1e-5 (papers: by its maximum), after summing four scales and the mirror image;
* SGD's momentum is 1e-4, an argument-order slip; 0.9 would multiply the effective rate by ten;
* how much of the backbone trains differs between repositories: `frozen` = layer2 (IRN, AMN) or stem (ReCAM, LPCAM,
  AdvCAM, our default).
Batch norms keep the statistics of the initial weights. Without initial weights there are none worth keeping: statistics
are then live, and nothing is frozen whatever `frozen` says, since a random stem would never be learnt.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import backbones
from imagesets.item import Item
from imagesets.transforms import classification_sample
from methods.linear_maps import per_image
from training import optimisers
from training.randomness import seed_torch
from training.stage import Context, Settings, Task


class Classifier(nn.Module):
    """Multi-label classifier: a bias-free 1x1 convolution on the global average of the last feature map."""

    def __init__(self, backbone: backbones.Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.channels[-1], classes, 1, bias=False)

    @property
    def weights(self) -> torch.Tensor:
        """The classifier's weights w_k, [K,C]."""
        return self.classifier.weight.flatten(1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to the last feature map f, [B,C,h,w]."""
        return self.backbone(images)[-1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to logits [B,K]."""
        return class_scores(self.features(images), self.weights)


class ClassificationStep(nn.Module):
    """One training step: binary cross-entropy of every class, averaged over images and classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, torch.Tensor], progress: float) -> dict[str, torch.Tensor]:
        """`batch` holds image [B,3,crop,crop] and labels [B,K] in {0,1}."""
        logits = self.network(batch["image"])
        return {"classification": functional.binary_cross_entropy_with_logits(logits, batch["labels"])}


def class_scores(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Logits w_k . GAP(f): features [B,C,h,w] and weights [K,C] to [B,K]."""
    return features.mean(dim=(2, 3)) @ weights.T


def class_maps(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Rectified class activation maps of an image plus those of its mirror (CAM Eq. 2).

    `features` [2,C,h,w] are of the image and of its mirror, `weights` [n,C] of n classes; returns [n,h,w], unnormalised.
    """
    image, mirror = torch.einsum("nc,bchw->bnhw", weights, features).relu()
    return image + mirror.flip(-1)


def network(settings: Settings, classes: tuple[str, ...]) -> Classifier:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return _build(settings, classes, weights="none")


def training(context: Context) -> Task:
    """Train the classifier on image-level labels."""
    settings = context.settings
    seed_torch(context.random_seed, "cam", "initial weights")
    classifier = _build(settings, context.classes, settings.backbone.weights)
    if _pretrained(settings):
        classifier.backbone.freeze(settings.frozen)
    return Task(
        network=classifier,
        step=ClassificationStep(classifier),
        sample=sampler(settings, len(context.classes)),
        optimiser=optimisers.build(settings.optimiser, parameter_groups(classifier, settings), settings.momentum),
        schedule=optimisers.poly(),
        batch=settings.batch,
        steps=optimisers.steps(len(context.items), settings.batch, settings.epochs),
    )


def parameter_groups(classifier: Classifier, settings: Settings) -> list[dict[str, Any]]:
    """The backbone at rate `lr` and the classifier at `head_lr`, both with `weight_decay`."""
    rates = ((classifier.backbone, settings.lr), (classifier.classifier, settings.head_lr))
    return [{"params": list(part.parameters()), "lr": rate, "weight_decay": settings.weight_decay} for part, rate in rates]


def sampler(settings: Settings, classes: int) -> Callable[[Item, np.random.Generator], dict[str, torch.Tensor]]:
    """What makes one training example: image float32 [3,crop,crop] and multi-hot labels float32 [K]."""

    def sample(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        image = classification_sample(item.rgb(), settings.long_side, settings.crop, rng)
        return {"image": torch.from_numpy(image), "labels": torch.from_numpy(item.multi_hot(classes))}

    return sample


def maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The maps of one image's own classes, summed over scales and mirror images."""
    weights = context.inputs["network"].weights
    return per_image(context, lambda features, keys: class_maps(features, weights[keys]))


def _build(settings: Settings, classes: tuple[str, ...], weights: str) -> Classifier:
    backbone = backbones.build(settings.backbone.name, weights=weights, frozen_statistics=_pretrained(settings))
    return Classifier(backbone, len(classes))


def _pretrained(settings: Settings) -> bool:
    return settings.backbone.weights != "none"
