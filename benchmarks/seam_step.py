"""A training step of SEAM and PCM on large maps, beside plain forms of the published ones: CPU time, memory, equal results.

Run from the repository root: python -m benchmarks.seam_step   (two minutes, 4 GB, one thread, Linux)

Both forms have the same network with the same weights. The published form, a re-implementation from the description of the
public code, enlarges the maps of all classes, and has the whole matrix of PCM, with the operations of its gradient, in memory.
"""

import argparse
from functools import partial

import torch
from torch import nn
from torch.nn import functional

import backbones
from benchmarks.clock import measured
from benchmarks.two_forms import CLASSES, Batch, Stepped, compared, costs, parser, summed
from maps.normalising import competing, highest_alone, max_normalised
from maps.pixel_correlation import correlated
from methods.seam import SEAM, EquivarianceObjective, resized
from orchestrator.planning.recipes import entries
from orchestrator.planning.references import resolve


class Published(nn.Module):
    """The losses of a step, from all classes and whole matrices."""

    def __init__(self, network: SEAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> torch.Tensor:
        """As `EquivarianceObjective`, but the sum of the losses alone."""
        images, labels = batch["image"], batch["labels"]
        smaller = functional.interpolate(images, scale_factor=0.3, mode="bilinear", align_corners=True)
        size = smaller.shape[-2:]
        label = torch.cat([torch.ones_like(labels[:, :1]), labels], dim=1)[:, :, None, None]
        maps, refined, total = [], [], torch.zeros(())
        for view in (images, smaller):
            scores, spread = self._maps(view)
            mean = functional.adaptive_avg_pool2d(scores, 1)[:, 1:, 0, 0]
            total = total + functional.multilabel_soft_margin_loss(mean, labels) / 2 + _lowest(spread * label) / 2
            maps.append(resized(max_normalised(scores), size) * label)
            refined.append(resized(max_normalised(spread), size) * label)
        total = total + (maps[0][:, 1:] - maps[1][:, 1:]).abs().mean()
        maps = [torch.cat([1 - own[:, 1:].amax(dim=1, keepdim=True), own[:, 1:]], dim=1) for own in maps]
        for own, other in ((maps[1], refined[0]), (maps[0], refined[1])):
            certain = torch.cat([own[:, :1], highest_alone(own[:, 1:])], dim=1).detach()
            differences = (certain - other).abs().flatten(1)
            total = total + differences.topk(int(0.2 * differences.shape[1]), dim=1).values.mean()
        return total

    def _maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and refined maps [B,1+K,H,W] at the size of the images."""
        *_, middle, late, last = self.network.backbone(images)
        scores = self.network.classifier(last)
        features = [self.network.middle(middle.detach()).relu(), self.network.late(late.detach()).relu()]
        parts = [resized(part, scores.shape[-2:]) for part in (images, *features)]
        spread = whole_matrix(competing(scores), self.network.joint(torch.cat(parts, dim=1)))
        return resized(scores, images.shape[-2:]), resized(spread, images.shape[-2:])


def whole_matrix(maps: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """As `correlated`, by the matrix of all positions."""
    vectors = features.flatten(2)
    vectors = vectors / (vectors.norm(dim=1, keepdim=True) + 1e-5)
    affinity = (vectors.transpose(1, 2) @ vectors).relu()
    affinity = affinity / (affinity.sum(dim=1, keepdim=True) + 1e-5)
    return (maps.flatten(2) @ affinity).reshape(maps.shape)


def _lowest(maps: torch.Tensor) -> torch.Tensor:
    highest = maps[:, 1:].amax(dim=1).flatten(1)
    count = highest.shape[1] // 4
    return highest.topk(count, dim=1, largest=False).values.relu().sum() / (count * len(maps))


def measured_step(options: argparse.Namespace, form: str) -> tuple[Stepped, float, float]:
    """The loss and the gradient of a step in one form, and what it costs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    architecture = resolve(entries("backbone")[options.backbone])
    network = SEAM(backbones.build(architecture, stride=8, dilated=True, frozen_statistics=True), CLASSES, dropout=0.0).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    labels = torch.zeros(options.batch, CLASSES)
    labels[:, 3] = labels[0, 8] = 1
    batch = {"image": torch.randn(options.batch, 3, options.crop, options.crop), "labels": labels}
    objective, published = EquivarianceObjective(network, factor=0.3), Published(network)
    total = {"ours": lambda: summed(objective(batch, 0)[0]), "published": lambda: published(batch)}[form]
    return costs(network, total, options.rounds)


@torch.no_grad()
def on_large_maps() -> None:
    """Print a line on PCM without gradients, at scale 2 of an image of 375x500 and its mirror image."""
    torch.set_num_threads(1)
    maps, features = torch.rand(2, 3, 94, 125), torch.randn(2, 192, 94, 125)
    found, seconds, rise = measured(lambda: correlated(maps, features))
    expected, their_seconds, their_rise = measured(lambda: whole_matrix(maps, features))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    print(
        f"PCM of 2 x 3 maps on a grid of 94x125, one thread: whole matrices {their_seconds:.2f} s, {their_rise:.0f} MB -> blocks "
        f"{seconds:.2f} s, {rise:.0f} MB ({their_seconds / seconds:.2f}x, {their_rise / max(rise, 1):.0f}x), equal maps"
    )


def main() -> None:
    """Print two lines; fails where results differ."""
    options = parser(__doc__, "mobilenetv2", crop=448, batch=2, rounds=3).parse_args()
    print(compared("SEAM", options, partial(measured_step, options)))
    on_large_maps()


if __name__ == "__main__":
    main()
