"""AMN: an activation manipulation network, which turns noisy confident labels into maps with a wide margin at a threshold.

Lee, Kim and Shim, Threshold Matters in WSSS: Manipulating the Activation for the Robust and Accurate Segmentation Model
Against Thresholds, CVPR 2022. A dense network learns CRF labels made of another method's maps, with a balanced,
label-smoothed loss per pixel (their PCL) on features that the image-level labels re-weight (their label conditioning
module). We did not have the paper and follow the public code, so equations are not numbered.

As in the code:
* the backbone starts from ImageNet weights, not from the network whose labels it learns; all of it trains except the stem;
* maps are normalised where the labels are foreground or undecided; elsewhere they stay
  probabilities, so a background pixel may exceed a threshold that its neighbours do not exceed;
* logits at full size are resized straight from the feature grid; CAM's go by way of a multiple of 16.
Unlike the code:
* dropout is off at inference (the code overrides the mode switch without calling its parent, and so leaves it on);
* if a batch has no background, or no foreground, that half of the loss is 0 (code: NaN);
* without initial weights (`backbone.weights=none`) the backbone starts from that of the network which made the maps.
The maps have no background of their own: all readers in the code drop channel 0, and we drop it too.
The loss is a ratio over the batch. With several workers, or in several parts, each share is balanced alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import backbones
from imagesets.crops import Crop, by_scale
from imagesets.item import VOID, Item
from imagesets.transforms import rescale
from imagesets.views import Loaded, pairs, sum_of_pairs
from maps.extraction import at_scales
from maps.maps import Maps
from maps.reading import summed, unit_range
from segmentation.aspp import ASPP
from segmentation.losses import shrunk
from training import optimisers
from training.stage import Context, Losses, Outputs, PerImage, Record, Records, Settings, Training

RATES = (6, 12, 18, 24)  # dilations of the parallel 3x3 convolutions (DeepLabV2's ASPP)


class AMN(nn.Module):
    """Features times a learnt vector of the image-level labels, then the sum of four dilated 3x3 convolutions."""

    def __init__(self, backbone: backbones.Backbone, classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.channels[-1]
        self.condition = nn.Linear(classes, channels)
        self.dropout = nn.Dropout(dropout)
        self.aspp = ASPP(channels, classes + 1, RATES)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] and their multi-hot labels [B,K] to logits [B,K+1,h,w], background first."""
        return self.head(self.features(images), labels)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to the backbone's last feature map [B,C,h,w], before the labels re-weight it."""
        return self.backbone(images)[-1]

    def probability(self, vectors: torch.Tensor, class_index: int) -> torch.Tensor:
        """Softmax probability [N] of one class for feature vectors [N,C].

        It is the head's answer to a constant map of each vector, conditioned on that class alone.
        """
        labels = nn.functional.one_hot(torch.tensor(class_index), self.condition.in_features).to(vectors)
        return self.aspp.on_constant(vectors * self.condition(labels)).softmax(dim=1)[:, class_index + 1]

    def head(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Features [B,C,h,w] and multi-hot labels [B,K] to logits [B,K+1,h,w]."""
        return self.aspp(self.dropout(features * self.condition(labels)[:, :, None, None]))


class ConfidentLabelObjective(nn.Module):
    """The balanced loss on the confident labels of a batch."""

    def __init__(self, network: AMN, smoothing: float) -> None:
        super().__init__()
        self.network, self.smoothing = network, smoothing

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop], label uint8 [B,crop,crop] and labels, the multi-hot [B,K].

        The output is logits [B,K+1,h,w].
        """
        logits = self.network(batch["image"], batch["labels"])
        loss = balanced_loss(logits, shrunk(batch["label"], logits.shape[-2:]), self.smoothing)
        return {"pixel_classification": loss}, {"logits": logits}


def balanced_loss(logits: torch.Tensor, label: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Half the mean loss over background pixels plus half the mean over foreground pixels, pooled over the batch.

    A pixel's loss is the cross entropy between softmax(`logits` [B,K+1,h,w]) and the smoothed target: 1 - `smoothing` on
    its `label` [B,h,w], smoothing / K on every other label; 255 counts in neither mean. A mean over no pixel is 0.
    """
    others = smoothing / (logits.shape[1] - 1)
    surprise = -logits.log_softmax(dim=1)
    own = torch.where(label == VOID, 0, label).long()
    loss = (1 - smoothing - others) * surprise.gather(1, own[:, None])[:, 0] + others * surprise.sum(dim=1)
    background, foreground = label == 0, (label != 0) & (label != VOID)
    means = [(loss * chosen).sum() / chosen.sum().clamp(min=1) for chosen in (background, foreground)]
    return (means[0] + means[1]) / 2


def normalised_where_confident(probabilities: torch.Tensor, confident: torch.Tensor) -> torch.Tensor:
    """Maps [n,H,W] from probabilities [n,H,W]: min-max normalised per class where `confident` [H,W], unchanged elsewhere."""
    return torch.where(confident, unit_range(probabilities), probabilities)


def kept(keys: Sequence[int], logits: Sequence[np.ndarray], label: np.ndarray) -> Maps:
    """What is kept of one image: each scale's logits [K+1,h_r,w_r], and where its label map uint8 [H,W] is not background.

    The largest logit of each position is subtracted. This changes no softmax, and half precision then keeps what matters.
    """
    grids = tuple(grid - grid.max(axis=0) for grid in logits)
    return Maps(np.asarray(keys, np.int64), label.shape, grids, {"confident": np.packbits(label != 0)})


def read(maps: Maps, full: bool) -> torch.Tensor:
    """Read the kept maps: softmax over all labels of the mean over scales, normalised where labels are confident."""
    height, width = maps.size
    confident = np.unpackbits(maps.extras["confident"], count=height * width).reshape(height, width)
    probabilities = (summed(maps, full) / len(maps.grids)).softmax(dim=0)[maps.keys + 1]
    return normalised_where_confident(probabilities, torch.from_numpy(rescale(confident, maps.extent(full), bicubic=False) != 0))


def network(settings: Settings, classes: tuple[str, ...], weights: str = "none") -> AMN:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    backbone = backbones.build(settings.backbone.name, weights=weights, frozen_statistics=True)
    return AMN(backbone, len(classes), settings.dropout)


def training(context: Context) -> Training:
    """Train on the confident labels (word `labels`), from ImageNet weights or the backbone of the word `network`."""
    settings = context.settings
    module = network(settings, context.classes, settings.backbone.weights)
    if settings.backbone.weights == "none":
        module.backbone.adopt(context.inputs["network"])
    module.backbone.freeze("stem")
    head = [parameter for name, parameter in module.named_parameters() if not name.startswith("backbone.")]
    groups = optimisers.groups(settings.weight_decay, (module.backbone.parameters(), settings.lr), (head, settings.head_lr))
    return Training(
        network=module,
        objective=ConfidentLabelObjective(module, settings.smoothing),
        sample=ConfidentLabelCrop(context.inputs["labels"], settings.scale_range, settings.crop, len(context.classes)),
        optimiser=optimisers.build("adam", groups),
        schedule=optimisers.constant,
        batch=settings.batch,
        steps=optimisers.steps(len(context.items), settings.batch, settings.epochs),
    )


@dataclass(frozen=True)
class ConfidentLabelCrop:
    """Makes one training example: image RGBA uint8 [4,crop,crop], label uint8 [crop,crop] and multi-hot labels float32 [K]."""

    labels: Records
    scale_range: Sequence[float]
    crop: int
    classes: int

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rgb, label = item.rgb(), self.labels[item.id]["label"]
        crop = Crop.drawn(by_scale(rgb.shape[:2], self.scale_range, rng), self.crop, rng)
        arrays = {"image": crop.image(rgb), "label": crop.label(label), "labels": item.multi_hot(self.classes)}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def maps(context: Context) -> PerImage:
    """The logits of one image and its mirror at all scales; `read` makes the maps of the image's own classes from them."""
    module, labels = context.inputs["network"], context.inputs["labels"]
    device, classes = context.device, len(context.classes)

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        multi_hot = torch.stack([_multi_hot(loaded.labels.to(device, non_blocking=True), classes) for loaded in batch])
        logits = [_logits(module, views, multi_hot) for views in pairs(batch, device)]
        return [[grid[place] for grid in logits] for place in range(len(batch))]

    def finish(item: Item, rgb: np.ndarray, logits: Sequence[np.ndarray]) -> Record:
        return kept(item.labels, logits, labels[item.id]["label"]).arrays()

    return at_scales(context, compute, finish)


def _multi_hot(keys: torch.Tensor, classes: int) -> torch.Tensor:
    """Class indices [n] to a multi-hot vector [K] on their device."""
    return torch.zeros(classes, device=keys.device).index_fill_(0, keys, 1)


def _logits(module: AMN, views: torch.Tensor, multi_hot: torch.Tensor) -> torch.Tensor:
    """Mean logits [B,K+1,h,w] of images and their mirrors [B,2,3,H,W] with multi-hot labels [B,K]."""
    logits = module(views.flatten(0, 1), multi_hot.repeat_interleave(2, dim=0))
    return sum_of_pairs(logits) / 2
