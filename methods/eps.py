"""EPS: a classifier with a channel for background, whose maps together must look like a saliency map.

Lee, Lee, Lee and Shim, Railroad is not a Train: Saliency as Pseudo-pixel Supervision for Weakly Supervised Semantic Segmentation,
CVPR 2021. Saliency maps know contours, and image-level labels know classes. We did not have the paper and follow the public code
(halbielee/EPS), so equations are not numbered:
* the last channel is background; softmax over all channels makes the maps, in training and at test time;
* a present class whose map lies on what is salient belongs to the foreground, one that does not to the background (objects that
  saliency misses); absent classes belong to neither. "Overlap" is the salient share of the class's own area, a precision;
* 1e-4 a cell is added to that area. Rounding makes it 0 where no cell exceeds a half, so such a class counts as background;
* SGD's momentum is 5e-4 (arguments in the wrong order).
Where a training crop is larger than its image, nothing is salient around the image.

ReCAM on EPS (ReCAM Table 4; its wiring is unpublished) trains EPS's network further, with EPS's losses and ReCAM's beside them.
Maps stay EPS's own: a product of weights has no scale that a softmax with the background channel could use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import backbones
from imagesets.crops import Crop
from imagesets.item import Item
from imagesets.labelled_crop import LabelledCrop
from imagesets.saliency import SaliencyMaps
from imagesets.views import mirror_sum
from maps.extraction import per_image
from maps.maps import Maps
from maps.reading import summed, unit_maximum
from methods import cam, recam
from training import optimisers
from training.parameter_groups import by_origin
from training.stage import Context, Losses, Outputs, PerImage, Settings, Training

CELL = 1e-4  # added to each cell of a class's area (EPS code)


class EPS(cam.Classifier):
    """A bias-free classifier of every position with one more channel, the last, for background."""

    def __init__(self, backbone: backbones.Backbone, classes: int) -> None:
        super().__init__(backbone, classes + 1)
        nn.init.xavier_uniform_(self.classifier.weight)

    @property
    def weights(self) -> torch.Tensor:
        """The classifier's weights of the classes, [K,C]."""
        return self.classifier.weight[:-1].flatten(1)

    def probability(self, vectors: torch.Tensor, class_index: int) -> torch.Tensor:
        """Softmax probability [N] of one class among the classes and background for feature vectors [N,C]."""
        return (vectors @ self.classifier.weight.flatten(1).T).softmax(dim=1)[:, class_index]


class SaliencyObjective(nn.Module):
    """The classification loss of the classes and the saliency loss of all channels."""

    def __init__(self, network: EPS, overlap: float, share: float) -> None:
        super().__init__()
        self.network, self.overlap, self.share = network, overlap, share

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop], labels [B,K] in {0,1} and saliency uint8 [B,crop,crop].

        Outputs are features [B,C,h,w], scores [B,1+K,h,w] with background first, and maps [B,K,h,w], rectified.
        """
        features = self.network.features(batch["image"])
        scores = self.network.classifier(features)
        saliency = batch["saliency"][:, None].float() / 255
        logits = scores[:, :-1].mean(dim=(2, 3))
        losses = {
            "classification": functional.binary_cross_entropy_with_logits(logits, batch["labels"]),
            "saliency": saliency_loss(scores, saliency, batch["labels"], self.overlap, self.share),
        }
        return losses, {"features": features, "scores": scores.roll(1, dims=1), "maps": scores[:, :-1].relu()}


def overlaps(probabilities: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
    """The salient share [B,K] of each class's area: probabilities [B,K,h,w] and saliency [B,1,h,w] in 0..1, both rounded."""
    area = probabilities.round()
    return (area * saliency.round()).sum(dim=(2, 3)) / (area + CELL).sum(dim=(2, 3))


def sides(
    probabilities: torch.Tensor, saliency: torch.Tensor, labels: torch.Tensor, overlap: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The foreground and the complement of the background, each [B,1,h,w], of probabilities [B,K+1,h,w], background last.

    A class of `labels` [B,K] is foreground if its overlap with the saliency [B,1,h,w] exceeds `overlap`, else background.
    """
    classes = probabilities[:, :-1]
    with torch.no_grad():
        salient = overlaps(classes, saliency) > overlap
    shown = labels > 0
    foreground, missed = (
        (classes * own[:, :, None, None]).sum(dim=1, keepdim=True) for own in (shown & salient, shown & ~salient)
    )
    return foreground, 1 - (missed + probabilities[:, -1:])


def predicted_saliency(foreground: torch.Tensor, background: torch.Tensor, share: float) -> torch.Tensor:
    """The saliency [B,1,h,w] that both `sides` say: `share` (lambda) times the first and 1 - `share` times the second."""
    return share * foreground + (1 - share) * background


def saliency_loss(
    scores: torch.Tensor, saliency: torch.Tensor, labels: torch.Tensor, overlap: float, share: float = 0.5
) -> torch.Tensor:
    """The mean squared error of the saliency that logits [B,K+1,h,w] say, background last, for multi-hot labels [B,K].

    `saliency` [B,1,H,W] in 0..1 is resized to the grid by nearest neighbour. `overlap` is tau, `share` is lambda.
    """
    saliency = functional.interpolate(saliency, size=scores.shape[2:], mode="nearest")
    found = sides(scores.softmax(dim=1), saliency, labels, overlap)
    return functional.mse_loss(predicted_saliency(*found, share), saliency)


def network(settings: Settings, classes: Sequence[str], weights: str = "none", stride: int | None = None) -> EPS:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    backbone = backbones.build(
        settings.backbone.name,
        stride=stride or settings.stride,
        dilated=True,
        weights=weights,
        frozen_statistics=cam.pretrained(settings),
    )
    return EPS(backbone, len(classes))


def training(context: Context) -> Training:
    """Train on image-level labels and saliency maps."""
    settings = context.settings
    module = network(settings, context.classes, settings.backbone.weights)
    if cam.pretrained(settings):
        module.backbone.freeze(settings.frozen)
    groups = by_origin(module, module.backbone, settings.lr, settings.head_lr, settings.weight_decay)
    return Training(
        network=module,
        objective=SaliencyObjective(module, settings.overlap, settings.share),
        sample=SalientCrop.of(context, settings),
        optimiser=optimisers.build(settings.optimiser, groups, settings.momentum),
        schedule=optimisers.poly(settings.iterations),
        batch=settings.batch,
        steps=settings.iterations,
    )


def retraining(context: Context) -> Training:
    """ReCAM's training of an EPS network (word `network`), whose settings are the group `network`."""
    own = context.settings.network
    module = network(context.settings, context.classes, weights="none", stride=own.stride)
    if cam.pretrained(context.settings):
        module.backbone.freeze(own.frozen)
    objective = SaliencyObjective(module, own.overlap, own.share)
    return recam.with_reactivation(context, module, objective, SalientCrop.of(context, own))


def retrained(settings: Settings, classes: tuple[str, ...]) -> EPS:
    """The network that `retraining` delivers, for trained weights to be loaded into."""
    return network(settings, classes, weights="none", stride=settings.network.stride)


@dataclass(frozen=True, kw_only=True)
class SalientCrop(LabelledCrop):
    """Makes one training example with saliency uint8 [crop,crop], 0 around the image."""

    saliency: SaliencyMaps

    @classmethod
    def of(cls, context: Context, own: Settings) -> "SalientCrop":
        """With the long side, crop and colour of the settings `own`."""
        saliency = SaliencyMaps.of(context.settings.images.saliency)
        return cls(own.long_side, own.crop, len(context.classes), own.colour, saliency=saliency)

    def further(self, item: Item, rgb: np.ndarray, crop: Crop) -> dict[str, np.ndarray]:
        return {"saliency": crop.plane(self.saliency(item, rgb), fill=0, bicubic=True)}


def maps(context: Context) -> PerImage:
    """The probabilities of one image's own classes, summed over scales and mirror images."""
    module = context.inputs["network"]

    def class_maps(features: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return mirror_sum(module.classifier(features).softmax(dim=1)[:, keys])

    return per_image(context, class_maps)


def read(maps: Maps, full: bool) -> torch.Tensor:
    """The reader: the sum over scales, each resized straight to the wanted grid, divided by its maximum."""
    return unit_maximum(summed(maps, full))
