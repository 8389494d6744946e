"""CAM: class activation maps of a multi-label classifier, the seeds that most methods start from.

Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016 (Eq. 1-2); trained and extracted as in
Ahn et al., Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (IRN), CVPR 2019.

Where the public IRN code and the papers differ, we follow the code, because the published figures come from it:
* a map is divided by its maximum + 1e-5 (papers: by its maximum), after summing four scales and the mirror image;
* SGD's momentum is 1e-4 (arguments in the wrong order); 0.9 would multiply the effective rate by ten;
* repositories train different parts of the backbone: `frozen` = layer2 (IRN, AMN) or stem (ReCAM, LPCAM,
  AdvCAM, our default).
The losses `sce` and `single-sce` are ReCAM's ablations (its Table 1). Its text does not say how an image with several labels
enters a softmax; we take the mean over those labels, as in ReCAM's own loss.
Batch norms keep the statistics of the initial weights. Without initial weights the statistics are live, and nothing is
frozen, whatever `frozen` says: a frozen random stem would never learn.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

import backbones
from imagesets.labelled_crop import LabelledCrop
from imagesets.views import mirror_sum
from maps.extraction import per_image
from training import optimisers
from training.over_epochs import over_epochs
from training.stage import Context, Losses, Outputs, PerImage, Settings, Training


class Classifier(nn.Module):
    """Multi-label classifier: a bias-free 1x1 convolution on the global average of the last feature map.

    Networks with further channels, such as one for background, have other `weights`.
    """

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

    def probability(self, vectors: torch.Tensor, class_index: int) -> torch.Tensor:
        """Softmax probability [N] of one class for feature vectors [N,C]."""
        return (vectors @ self.weights.T).softmax(dim=1)[:, class_index]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to logits [B,K]."""
        return class_scores(self.features(images), self.weights)

    def chosen_weights(self, choice: str | None = None) -> torch.Tensor:
        """The weights [K,C] that make maps; a network with one classifier offers no choice."""
        if choice is not None:
            raise ValueError(f"{type(self).__name__} has no weights {choice!r}")
        return self.weights


Kind = TypeVar("Kind", bound=Classifier)


class ClassificationObjective(nn.Module):
    """Computes `classification_loss` of a `kind`; the loss is named `classification`."""

    def __init__(self, network: Classifier, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop] and labels [B,K] in {0,1}; outputs are features [B,C,h,w] and logits [B,K]."""
        features = self.network.features(batch["image"])
        logits = class_scores(features, self.network.weights)
        losses = {"classification": classification_loss(logits, batch["labels"], self.kind)}
        return losses, {"features": features, "logits": logits}


def classification_loss(logits: torch.Tensor, labels: torch.Tensor, kind: str) -> torch.Tensor:
    """The mean loss over a batch of logits [B,K] and multi-hot labels [B,K].

    `kind`: "bce", binary cross-entropy averaged over classes; "sce", softmax cross-entropy; "single-sce", softmax
    cross-entropy for images with one label and binary for the others.
    """
    binary = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)
    if kind == "bce":
        return binary.mean()
    softmax = mean_over_labels(-logits.log_softmax(dim=1), labels)
    return (softmax if kind == "sce" else torch.where(labels.sum(dim=1) == 1, softmax, binary)).mean()


def mean_over_labels(losses: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each image's mean loss [B] over the classes it shows: losses and multi-hot labels [B,K]; 0 for one without labels."""
    return (losses * labels).sum(dim=1) / labels.sum(dim=1).clamp(min=1)


def class_scores(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Logits w_k . GAP(f): features [B,C,h,w] and weights [K,C] to [B,K]."""
    return features.mean(dim=(2, 3)) @ weights.T


def class_maps(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Rectified class activation maps of an image plus those of its mirror (CAM Eq. 2).

    `features` [2,C,h,w] are of the image and of its mirror, `weights` [n,C] of n classes; returns [n,h,w], unnormalised.
    """
    return mirror_sum(torch.einsum("nc,bchw->bnhw", weights, features).relu())


def network(settings: Settings, classes: tuple[str, ...]) -> Classifier:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return build(Classifier, settings, classes, weights="none")


def training(context: Context) -> Training:
    """Train the classifier on image-level labels."""
    settings = context.settings
    classifier = build(Classifier, settings, context.classes, settings.backbone.weights)
    if pretrained(settings):
        classifier.backbone.freeze(settings.frozen)
    parts = (classifier.backbone.parameters(), settings.lr), (classifier.classifier.parameters(), settings.head_lr)
    groups = optimisers.groups(settings.weight_decay, *parts)
    sample = LabelledCrop(settings.long_side, settings.crop, len(context.classes))
    return over_epochs(context, classifier, ClassificationObjective(classifier, settings.loss), sample, groups)


def maps(context: Context) -> PerImage:
    """The maps of one image's own classes, summed over scales and mirror images."""
    weights = context.inputs["network"].weights
    return per_image(context, lambda features, keys: class_maps(features, weights[keys]))


def build(kind: type[Kind], settings: Settings, classes: Sequence[str], weights: str) -> Kind:
    """A classifier of a kind on the backbone of the settings; `weights` as in `backbones.build`."""
    backbone = backbones.build(settings.backbone.name, weights=weights, frozen_statistics=pretrained(settings))
    return kind(backbone, len(classes))


def pretrained(settings: Settings) -> bool:
    """Whether training started from initial weights, whose statistics are worth keeping."""
    return settings.backbone.weights != "none"
