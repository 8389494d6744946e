"""RecurSeed: a classifier and a decoder on one backbone, which learns from its own refined maps in every step.

Jo, Yu and Kim, RecurSeed and EdgePredictMix: Single-stage Learning is Sufficient for Weakly-Supervised Semantic Segmentation,
arXiv 2204.06754. The network is in `methods.recurseed_network`. Its training was never published: we follow the paper, numbers
that the public code leaks, and where both are silent the same author's PuzzleCAM and DHR. `recipes/recurseed.yaml` has each open
question as a setting and argues its default.

    L_cls  binary cross-entropy of the mean of the CAM logits
    L_seg  cross-entropy of the decoder with M_seg, after `seg_begin` epochs
    L_rec  distance of the network's CAM to M_rs, after `rec_begin` epochs

Targets M_rs and M_seg (`methods.recurseed_targets`) come from the same forward pass, the same view and the present weights: the
paper calls its t an epoch and a step, but maps of an epoch ago would not fit random crops.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from imagesets.crops import Crop
from imagesets.item import Item
from imagesets.labelled_crop import LabelledCrop
from methods.cam import pretrained
from methods.recurseed_network import RecurSeed, build
from methods.recurseed_targets import Making, pooled, recursion_loss, targets
from refiners import pamr, scg
from segmentation.losses import cross_entropy
from training import optimisers
from training.average import AveragedCopy
from training.over_epochs import over_epochs
from training.parameter_groups import by_origin
from training.stage import Context, Losses, Outputs, Settings, Training


class RecurSeedObjective(nn.Module):
    """The losses of a network. `begins` says from which step on `seg` and `rec` count; what is not in it never does."""

    def __init__(
        self, network: RecurSeed, begins: Mapping[str, int], making: Making, pooling: str, recursion: tuple[str, str]
    ) -> None:
        super().__init__()
        self.network, self.begins, self.making, self.pooling = network, begins, making, pooling
        self.recursion = recursion  # how `recursion_loss` normalises and over which classes it is the mean

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop], labels [B,K] in {0,1} and valid [B,4], the image in its crop in pixels.

        Outputs are `scores` [B,K,h,w] (CAM logits) and `decoded` [B,1+K,H/4,W/4]; once a loss has begun that needs them, also
        `recursion` [B,K,H/4,W/4] (M_rs) and `target` int64 [B,H/4,W/4] (M_seg), both without gradient.
        """
        images, labels, valid = batch["image"], batch["labels"], batch["valid"]
        scores, decoded, taps = self.network.both(images)
        logits = pooled(scores, valid, images.shape[-2:]) if self.pooling == "valid" else scores.mean(dim=(2, 3))
        losses = {"classification": functional.binary_cross_entropy_with_logits(logits, labels)}
        outputs = {"scores": scores, "decoded": decoded}
        active = {name for name, begin in self.begins.items() if step >= begin}
        if active:
            recursion, target = targets(taps, scores, images, labels, valid, decoded.shape[-2:], self.making)
            outputs |= {"recursion": recursion, "target": target.long()}
        if "seg" in active:
            losses["segmentation"] = cross_entropy(decoded, outputs["target"])
        if "rec" in active:
            losses["recursion"] = recursion_loss(scores, outputs["recursion"], labels, *self.recursion)
        return losses, outputs


class PlacedCrop(LabelledCrop):
    """Makes one training example with valid int64 [4]: top, left, bottom and right of the image in the padded crop, in pixels."""

    def further(self, item: Item, rgb: np.ndarray, crop: Crop) -> dict[str, np.ndarray]:
        rows, columns = crop.within
        return {"valid": np.array([rows.start, columns.start, rows.stop, columns.stop])}


def network(settings: Settings, classes: tuple[str, ...]) -> RecurSeed:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return build(settings, classes, weights="none", frozen_statistics=False)


def training(context: Context) -> Training:
    """Train classifier and decoder on image-level labels."""
    settings = context.settings
    module = build(settings, context.classes, settings.backbone.weights, settings.frozen_norms and pretrained(settings))
    length = partial(optimisers.steps, len(context.items), settings.batch)
    begins = {"seg": length(settings.seg_begin), "rec": length(settings.rec_begin)}
    objective = RecurSeedObjective(
        module,
        {name: step for name, step in begins.items() if name in settings.losses},
        making(settings),
        settings.pooling,
        (settings.recursion, settings.recursion_over),
    )
    sample = PlacedCrop(settings.long_side, settings.crop, len(context.classes), settings.colour)
    own = over_epochs(context, module, objective, sample, groups(module, settings))
    return averaged(own, settings.ema, settings.ema_ramp)


def averaged(training: Training, decay: float, ramp: float) -> Training:
    """The training, which delivers the average of its network's weights, or as it is if `decay` is 0."""
    if not decay:
        return training
    network, average = training.network, AveragedCopy(training.network, decay, ramp)
    training.objective.average = average  # a part of the objective, so that it is in the checkpoint
    return replace(
        training,
        after_step=lambda step: average.update(network, step + 1),
        finish=lambda: average.deliver(network),
    )


def problems(context: Context) -> list[str]:
    """A sentence if the losses cannot train the network or never begin, and one if two averages of its weights are asked for."""
    settings, found = context.settings, []
    if "cls" not in settings.losses:
        found.append(f"recurseed.losses={settings.losses} lacks cls; the other losses learn from the classifier's maps")
    for loss, begin in (("seg", settings.seg_begin), ("rec", settings.rec_begin)):
        if loss in settings.losses and begin >= settings.epochs:
            never = f"because the loss {loss} would never begin; recurseed.losses names those that train"
            found.append(f"recurseed.{loss}_begin={begin} must be below recurseed.epochs={settings.epochs}, {never}")
    if settings.ema and settings.training.ema:
        found.append(f"recurseed.ema={settings.ema} and training.ema={settings.training.ema} are two averages; set one to 0")
    return found


def making(settings: Settings) -> Making:
    """How the settings have targets made."""
    refine = partial(pamr.refined_inside, **pamr_parameters(settings))
    return Making(
        layers=settings.layers,
        stride=settings.scg_stride,
        spread=scg.Parameters.of(settings.scg),
        refine=refine if settings.pamr else None,
        foreground=settings.certain_foreground,
        background=settings.certain_background,
        edge_predict=settings.edge_predict,
        void_padding=settings.padding == "void",
    )


def pamr_parameters(settings: Settings) -> dict[str, Any]:
    """PAMR's arguments of a stage's settings `pamr.*`. (`settings.pamr` may be recurseed's own switch.)"""
    return {name: getattr(settings, f"pamr.{name}") for name in ("dilations", "iterations", "sigma")}


def groups(module: RecurSeed, settings: Settings) -> list[dict[str, Any]]:
    """The parameter groups: old and new layers and, unless biases count as weights, biases apart."""
    if settings.biases == "doubled":
        return by_origin(module, module.backbone, settings.lr, settings.head_lr, settings.weight_decay)
    new = [*module.classifier.parameters(), *module.decoder.parameters()]
    return optimisers.groups(settings.weight_decay, (module.backbone.parameters(), settings.lr), (new, settings.head_lr))
