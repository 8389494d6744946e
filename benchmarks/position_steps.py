"""A training step of SIPE and of Spatial-BCE beside plain forms of the published ones: CPU time, memory, equal results.

Run from the repository root: python -m benchmarks.position_steps   (two minutes, 4 GB, one thread, Linux)

Both forms have the same network with the same weights. The published forms, re-implementations from the descriptions of the
public code, have a tensor of all classes, channels and positions for prototypes and cosines (SIPE), and a classifier for each
class and the losses and thresholds of all classes (Spatial-BCE).
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional

import backbones
from benchmarks.two_forms import CLASSES, Batch, Stepped, compared, costs, parser, summed
from methods.sipe import SIPE, PrototypeObjective
from methods.spatial_bce import PositionObjective, SpatialBCE
from orchestrator.planning.recipes import entries
from orchestrator.planning.references import resolve


def sipe(network: SIPE, batch: Batch) -> torch.Tensor:
    """The sum of the losses of SIPE."""
    taps, labels = network.backbone(batch["image"]), batch["labels"]
    sides = [side(tap.detach()) for side, tap in zip(network.sides, taps[-4:], strict=True)]
    hierarchy = torch.cat(
        [functional.interpolate(_unit(side), size=taps[-1].shape[2:], mode="bilinear") for side in sides], dim=1
    )
    scores = network.classifier(taps[-1])
    shown = functional.interpolate(batch["covered"][:, None].float(), size=scores.shape[2:])
    shown = torch.cat([shown, shown * labels[:, :, None, None]], dim=1)
    maps = scores.relu() / (scores.relu().amax(dim=(2, 3), keepdim=True) + 1e-5)
    maps = torch.cat([1 - maps.amax(dim=1, keepdim=True), maps], dim=1) * shown
    with torch.no_grad():
        vectors, planes = _unit(taps[-1]).flatten(2), maps.flatten(2)
        affinity = (vectors.transpose(1, 2) @ vectors).relu()
        overlaps = []
        for plane in planes.unbind(dim=1):
            common = (affinity * plane[:, None]).sum(dim=2)
            overlaps.append(common / (affinity.sum(dim=2) + plane.sum(dim=1, keepdim=True) - common))
        overlaps[0] = overlaps[0] / 2
        best = torch.stack(overlaps, dim=1).argmax(dim=1).view_as(shown[:, 0])
        seeds = functional.one_hot(best, CLASSES + 1).movedim(-1, 1) * shown
    prototypes = (seeds[:, :, None] * hierarchy[:, None]).mean(dim=(3, 4))
    specific = functional.cosine_similarity(hierarchy[:, None], prototypes[..., None, None], dim=2).relu()
    specific = specific / (specific.amax(dim=(2, 3), keepdim=True) + 1e-5)
    classification = functional.multilabel_soft_margin_loss(functional.adaptive_avg_pool2d(scores, 1)[..., 0, 0], labels)
    return classification + (maps - specific).abs().mean()


def spatial_bce(network: SpatialBCE, batch: Batch) -> torch.Tensor:
    """The sum of the losses of Spatial-BCE in a step that trains the classifier."""
    features, labels = network.backbone(batch["image"])[-1], batch["labels"]
    reduced = network.reduction(features)
    network.threshold(features)
    scales = network.temperature.exp()
    parts = [functional.conv2d(reduced, network.classifier.weight[[key]]) * scales[key] for key in range(CLASSES)]
    p = torch.cat(parts, dim=1).sigmoid()
    falling = p.detach().flatten(2).sort(dim=2, descending=True).values
    ranks = (batch["areas"] * falling.shape[2]).long()
    t = falling.gather(2, ranks[..., None])[..., None].clamp(min=1e-4)
    low, high = 2 * p / t - (p / t) ** 2, (1 - p) * (1 - 2 * t + p) / ((1 - t) ** 2).clamp(min=1e-8)
    present, shown = torch.where(p <= t, low, high), labels[:, :, None, None]
    loss = (present * shown - (1 - p).clamp(min=1e-8).log() * (1 - shown)).mean()
    mean, area = p.mean(dim=(2, 3)), batch["areas"]
    inside = mean * (mean / (area + 1e-10)).clamp(min=1e-8).log()
    outside = (1 - mean) * ((1 - mean) / (1 - area + 1e-10)).clamp(min=1e-8).log()
    return loss + ((inside + outside) * labels).sum() / labels.sum()


def _unit(features: torch.Tensor) -> torch.Tensor:
    return features / (features.norm(dim=1, keepdim=True) + 1e-5)


METHODS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], Callable[..., torch.Tensor]]] = {
    "sipe": (SIPE, lambda network: PrototypeObjective(network, 1.0), sipe),
    "spatial-bce": (partial(SpatialBCE, scale=10.0), lambda network: PositionObjective(network, 1.0), spatial_bce),
}


def measured_step(method: str, options: argparse.Namespace, form: str) -> tuple[Stepped, float, float]:
    """The loss and the gradient of a step in one form, and what it costs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kind, objective_of, published = METHODS[method]
    backbone = backbones.build(resolve(entries("backbone")[options.backbone]), frozen_statistics=True)
    backbone.freeze("layer2" if method == "sipe" else "layer1")
    network = kind(backbone, CLASSES)
    objective = objective_of(network).train()
    labels = torch.zeros(options.batch, CLASSES)
    labels[:, 3] = labels[0, 8] = 1
    covered = torch.ones(options.batch, options.crop, options.crop, dtype=torch.uint8)
    batch = {"image": torch.randn(options.batch, 3, options.crop, options.crop), "labels": labels}
    batch |= {"covered": covered, "areas": labels * 0.2}
    total = {"ours": lambda: summed(objective(batch, 0)[0]), "published": lambda: published(network, batch)}[form]
    return costs(network, total, options.rounds)


def main() -> None:
    """Print a line for each method; fails where results differ."""
    options = parser(__doc__, "mobilenetv2", crop=512, batch=2, rounds=3).parse_args()
    for method in METHODS:
        print(compared(method, options, partial(measured_step, method, options), most=1e-3), flush=True)


if __name__ == "__main__":
    main()
