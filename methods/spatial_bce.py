"""Spatial-BCE: every position is classified by itself, as foreground or background of each class that the image shows.

Wu et al., Adaptive Spatial-BCE Loss for Weakly Supervised Semantic Segmentation, ECCV 2022. There is no pooling. The loss of a
position of a class that the image shows is 1 at a threshold and falls to 0 on both sides of it, so a position moves away from the
threshold; a class that is not shown has the usual loss everywhere. The threshold is where the class's share of the image, which
an earlier network estimates, is reached. A branch of its own learns to predict it. A further loss keeps the mean probability near
that share (Kullback-Leibler). Three trainings follow one another, each from the weights of the one before it, and the shares are
estimated anew from its maps, after a dense CRF.

As in the public code (allenwu97/Spatial-BCE):
* of every 100 steps, 80 train the classifier by shares and 20 the threshold branch;
* a class's scale is learnt, exp(t) times its logit, from `scale` = 10 on; maps are made of logits without it;
* in maps, a position counts for its best class alone.
Where the public code is silent or of no use to others:
* the shares of the first training come from a file whose origin it does not tell. Here they come from the labels of the network
  before it in the expression, CAM's by default, or from a file of your own (`areas`). They never come from masks;
* a share is that of the maps cut at `seed_threshold`, after the CRF. Its "optimal" threshold is found on masks; ours is a
  setting in the middle of the range that it tries;
* `thresholds` = fixed is the default: IRN reads such maps in HFPL, and each class keeps a share. With adaptive, each map is
  stretched so that the threshold that the branch predicts lies at 0.3. It applies before the division by the
  maximum, where it was learnt. A branch that has hardly learnt leaves no share to some classes, and the next training none;
* the branch's answer is the mean over positions, scales and mirror images;
* without initial weights, the first training starts from the backbone and the class weights of the network before it;
* a share of 1 would be a place behind the last pixel (code: an error); it is the last pixel;
* with ISL the samples replace a share of the classifier's own loss, which plays the part of pooling's, and so in its 80 steps;
  FSL is on all steps, as the loss of the mean is. Both are in all three trainings: HFPL says nothing of phases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import nn

import backbones
from backbones.augmenting import rand_augmented
from imagesets.item import Item
from imagesets.transforms import rescale
from imagesets.views import Loaded, pairs, sum_of_pairs
from maps.extraction import at_scales, own_maps
from maps.maps import Maps
from maps.normalising import highest_alone
from maps.reading import summed, unit_maximum
from training import optimisers
from training.over_epochs import over_epochs
from training.stage import Context, Losses, Outputs, PerImage, Record, Records, Settings, Training

WIDTH = 128  # channels between the features and the classifier
CYCLE, CLASSIFIER = 100, 80  # steps of a cycle, and those of them that train the classifier
LEAST = 1e-4  # smallest threshold
LEVEL = 0.3  # where the thresholds of `adaptive` maps lie, which is the default of `seed_threshold`
LARGE = 1000.0  # larger logits change no probability, and half precision ends at 65504
TINY = 1e-8  # smallest argument of a logarithm, and of a division


class SpatialBCE(nn.Module):
    """A classifier and a threshold branch at every position of a backbone's last feature map; logits begin with a `scale`."""

    def __init__(self, backbone: backbones.Backbone, classes: int, scale: float) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.channels[-1]
        self.reduction = nn.Conv2d(channels, WIDTH, 1, bias=False)
        self.classifier = nn.Conv2d(WIDTH, classes, 1, bias=False)
        self.threshold = nn.Conv2d(channels, classes, 1, bias=False)
        self.temperature = nn.Parameter(torch.full((classes,), log(scale)))

    @torch.no_grad()
    def start_from(self, network: nn.Module) -> None:
        """Take the backbone and the class weights [K,C] of a CAM network; the logits without scale are then its scores."""
        self.backbone.adopt(network)
        weights = network.weights[:WIDTH, :, None, None]  # type: ignore[index]
        self.reduction.weight[: len(weights)] = weights
        nn.init.eye_(self.classifier.weight.flatten(1))

    def head(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B,C,h,w] to the logits without their scale, and to the threshold branch's logits, both [B,K,h,w]."""
        return self.classifier(self.reduction(features)), self.threshold(features)

    def scaled(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [B,K,h,w] times their classes' scales."""
        return logits * self.temperature.exp()[:, None, None]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images [B,3,H,W] to what `head` gives."""
        return self.head(self.backbone(images)[-1])


class PositionObjective(nn.Module):
    """The loss of all positions, or in the last steps of a cycle that of the thresholds; always the loss of the mean."""

    def __init__(self, network: SpatialBCE, area_weight: float) -> None:
        super().__init__()
        self.network, self.area_weight = network, area_weight

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,side,side], labels [B,K] in {0,1} and areas [B,K], the classes' shares of the image.

        The output is scores [B,K,h,w], the logits with their scales.
        """
        logits, thresholds = self.network(batch["image"])
        scores, labels, areas = self.network.scaled(logits), batch["labels"], batch["areas"]
        losses = {"area": self.area_weight * area_loss(scores, labels, areas)}
        if step % CYCLE < CLASSIFIER:
            losses["classification"] = spatial_loss(scores, labels, areas)
        else:
            losses["threshold"] = threshold_loss(thresholds, scores.sigmoid().detach(), labels)
        return losses, {"scores": scores}


def thresholds_by_area(probabilities: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
    """The probability, at least 1e-4, above which a share `areas` [n] of positions lies, of probabilities [n,N]: [n]."""
    positions = probabilities.shape[1]
    ranks = (areas * positions).long().clamp(max=positions - 1)
    falling = probabilities.detach().sort(dim=1, descending=True).values
    return falling.gather(1, ranks[:, None])[:, 0].clamp(min=LEAST)


def low_loss(probabilities: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """The loss of positions below the threshold: 0 at probability 0 and, with slope 0, 1 at the threshold."""
    shares = probabilities / thresholds
    return 2 * shares - shares**2


def high_loss(probabilities: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """The loss of positions above the threshold: 0 at probability 1 and, with slope 0, 1 at the threshold."""
    return (1 - probabilities) * (1 - 2 * thresholds + probabilities) / ((1 - thresholds) ** 2).clamp(min=TINY)


def spatial_loss(scores: torch.Tensor, labels: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
    """The mean loss of all positions and classes, with thresholds by area, of scores [B,K,h,w], labels and areas [B,K]."""
    probabilities, shown = scores.sigmoid().flatten(2), labels > 0
    own = probabilities[shown]
    thresholds = thresholds_by_area(own, areas[shown])[:, None]
    present = torch.where(own <= thresholds, low_loss(own, thresholds), high_loss(own, thresholds))
    absent = -(1 - probabilities[~shown]).clamp(min=TINY).log()
    return (present.sum() + absent.sum()) / probabilities.numel()


def threshold_loss(thresholds: torch.Tensor, probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean loss below the thresholds plus that above, over the positions of the classes that images show.

    The thresholds are the means of the branch's logits `thresholds` [B,K,h,w], as probabilities. `probabilities` [B,K,h,w] are
    constants, `labels` [B,K] in {0,1}. A mean over no position is 0.
    """
    shown = labels > 0
    own = probabilities.flatten(2)[shown]
    cuts = thresholds.mean(dim=(2, 3))[shown].sigmoid().clamp(min=LEAST)[:, None]
    low = own <= cuts
    below, above = (low_loss(own, cuts) * low).sum(), (high_loss(own, cuts) * ~low).sum()
    return below / low.sum().clamp(min=1) + above / (~low).sum().clamp(min=1)


def area_loss(scores: torch.Tensor, labels: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
    """Mean Kullback-Leibler divergence of the mean probability from the share, over the classes that images show.

    `scores` are [B,K,h,w], `labels` and `areas` [B,K]. The mean over no class is 0.
    """
    shown = labels > 0
    means, shares = scores.sigmoid().mean(dim=(2, 3))[shown], areas[shown]
    inside = means * (means / (shares + 1e-10)).clamp(min=TINY).log()
    outside = (1 - means) * ((1 - means) / (1 - shares + 1e-10)).clamp(min=TINY).log()
    return (inside + outside).sum() / shown.sum().clamp(min=1)


def unscaled_thresholds(thresholds: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """The thresholds [..,K] of probabilities without scale: branch logits [..,K] are of probabilities with it, exp(t) [K]."""
    return (thresholds / temperature.exp()).sigmoid()


def with_thresholds_at(maps: torch.Tensor, thresholds: torch.Tensor, level: float) -> torch.Tensor:
    """Maps [n,h,w] in 0..1 whose `thresholds` [n] become `level`, and their maxima 1 where they lie above the threshold."""
    peaks, cuts = maps.amax(dim=(1, 2), keepdim=True), thresholds[:, None, None]
    higher = level + (1 - level) * (maps - cuts) / (peaks - cuts).clamp(min=TINY)
    return torch.where(maps > cuts, higher, level * maps / cuts.clamp(min=TINY))


def read(maps: Maps, full: bool) -> torch.Tensor:
    """The reader: probabilities of the mean logit of all scales, the best class alone, divided by the maximum or moved."""
    found = highest_alone((summed(maps, full) / len(maps.grids)).sigmoid())
    if "thresholds" in maps.extras:
        return with_thresholds_at(found, torch.from_numpy(maps.extras["thresholds"]), LEVEL)
    return unit_maximum(found, TINY)


def network(settings: Settings, classes: Sequence[str], weights: str = "none") -> SpatialBCE:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    own = backbones.build(settings.backbone, stride=settings.stride, dilated=True, weights=weights, frozen_statistics=True)
    return SpatialBCE(own, len(classes), settings.scale)


def training(context: Context) -> Training:
    """One of the three trainings, with the shares of the word `areas`.

    The first starts from initial weights, or without them from the word `network`; the others start from the
    training before them.
    """
    settings, before = context.settings, context.inputs.get("network")
    module = network(settings, context.classes, settings.weights)
    if isinstance(before, SpatialBCE):
        module.load_state_dict(before.state_dict())
    elif before is not None:
        module.start_from(before)
    module.backbone.freeze(settings.frozen)
    heads = [*module.reduction.parameters(), *module.classifier.parameters()]
    # a group of its own: torch's fused SGD wants gradients of all of a group's parameters, or of none
    branch = module.threshold.parameters(), settings.head_lr
    groups = optimisers.groups(
        settings.weight_decay, (module.backbone.parameters(), settings.lr), (heads, settings.head_lr), branch
    )
    groups += optimisers.groups(0.0, ([module.temperature], settings.head_lr))
    sample = AugmentedSquare(context.inputs["areas"], settings.side, len(context.classes))
    return over_epochs(context, module, PositionObjective(module, settings.area_weight), sample, groups)


@dataclass(frozen=True)
class AugmentedSquare:
    """Makes one training example: image RGBA uint8 [4,side,side], multi-hot labels and areas float32 [K]."""

    areas: Records
    side: int
    classes: int

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        square = rand_augmented(rescale(item.rgb(), (self.side, self.side)), rng)
        image = np.concatenate([square.transpose(2, 0, 1), np.full((1, self.side, self.side), 255, np.uint8)])
        arrays = {"image": image, "labels": item.multi_hot(self.classes), "areas": self.areas[item.id]["areas"]}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def maps(context: Context) -> PerImage:
    """The logits without scale of one image's own classes, at every scale, each the mean over image and mirror image.

    With the setting `thresholds` = adaptive there are the thresholds of its classes as well.
    """
    module, device = context.inputs["network"], context.device
    adaptive = context.settings.thresholds == "adaptive"

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        found = [_means(module, views) for views in pairs(batch, device)]
        if not found:
            return [[] for _ in batch]
        means = torch.stack([thresholds.mean(dim=(2, 3)) for _, thresholds in found]).mean(dim=0)
        cuts, own = unscaled_thresholds(means, module.temperature), [loaded.labels.to(device) for loaded in batch]
        return [[cuts[place, keys], *(logits[place, keys] for logits, _ in found)] for place, keys in enumerate(own)]

    def finish(item: Item, rgb: np.ndarray, arrays: Sequence[np.ndarray]) -> Record:
        extras = {"thresholds": arrays[0]} if adaptive and arrays else {}
        return own_maps(item, rgb, arrays[1:], **extras)

    return at_scales(context, compute, finish)


def _means(module: SpatialBCE, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean logits and threshold logits [B,K,h,w] of images and their mirrors [B,2,3,H,W]."""
    logits, thresholds = module(views.flatten(0, 1))
    return (sum_of_pairs(logits) / 2).clamp(-LARGE, LARGE), thresholds.unflatten(0, (-1, 2)).mean(dim=1)
