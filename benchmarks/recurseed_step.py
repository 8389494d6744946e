"""A training step of RecurSeed beside a plain form of it: CPU time, the share that making targets takes, equal results.

Run from the repository root: python -m benchmarks.recurseed_step   (a minute, one thread)

Both forms have the same network with the same weights. The plain form makes the targets image by image and for all classes, with
all matrices of SCG at once and PAMR's neighbours unfolded; losses are as their equations read.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional

import backbones
from benchmarks import pamr, scg
from benchmarks.clock import median_time
from benchmarks.two_forms import CLASSES, Batch, apart, parser, stepped, summed
from methods.recurseed import RecurSeedObjective
from methods.recurseed_network import RecurSeed
from methods.recurseed_targets import Making, in_cells, targets
from orchestrator.planning.recipes import entries
from orchestrator.planning.references import resolve
from segmentation.deeplab_v3plus import LOW, Decoder


class Plain(nn.Module):
    """The losses of a step, from all classes."""

    def __init__(self, network: RecurSeed, making: Making) -> None:
        super().__init__()
        self.network, self.making = network, making

    def forward(self, batch: Batch) -> torch.Tensor:
        """As `RecurSeedObjective`, but the sum of the losses alone."""
        images, labels = batch["image"], batch["labels"]
        scores, decoded, taps = self.network.both(images)
        present = labels[:, :, None, None]
        cams = scores.relu() / (scores.relu().amax(dim=(2, 3), keepdim=True) + 1e-5) * present
        with torch.no_grad():
            recursion, target = self.targets(taps, cams.detach(), images, batch["valid"], labels, decoded.shape[-2:])
        aim = functional.interpolate(recursion, scores.shape[-2:], mode="bilinear", align_corners=False)
        pooled = [
            own[:, top:bottom, left:right].mean(dim=(1, 2)) for own, (top, left, bottom, right) in self.windows(batch, scores)
        ]
        return (
            functional.multilabel_soft_margin_loss(torch.stack(pooled), labels)
            + functional.cross_entropy(decoded, target, ignore_index=255)
            + ((cams - aim).abs() * present).mean()
        )

    def windows(self, batch: Batch, planes: torch.Tensor) -> zip:  # type: ignore[type-arg]
        """Each image's planes with its window in their cells."""
        found = in_cells(batch["valid"], batch["image"].shape[-2:], planes.shape[-2:])
        return zip(planes, found.tolist(), strict=True)

    def targets(
        self,
        taps: tuple[torch.Tensor, ...],
        cams: torch.Tensor,
        images: torch.Tensor,
        valid: torch.Tensor,
        labels: torch.Tensor,
        size: torch.Size,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """M_rs [B,K,h,w] and M_seg [B,h,w]."""
        grid = [side // self.making.stride for side in images.shape[-2:]]
        layers = [
            functional.interpolate(taps[layer - 1], grid, mode="bilinear", align_corners=False) for layer in self.making.layers
        ]
        cams = functional.interpolate(cams, grid, mode="bilinear", align_corners=False)
        smaller = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        recursion = cams.new_zeros(*labels.shape, *size)
        target = torch.full((len(images), *size), 255)
        for place, (top, left, bottom, right) in enumerate(in_cells(valid, images.shape[-2:], size).tolist()):
            found = (
                scg.plain([layer[place : place + 1] for layer in layers], cams[place : place + 1]) * labels[place, :, None, None]
            )
            found = functional.interpolate(found, size, mode="bilinear", align_corners=False)
            window = ..., slice(top, bottom), slice(left, right)
            own = pamr.plain(smaller[place][window][None], found[0][window][None])[0] * labels[place, :, None, None]
            recursion[place][window] = own
            peak, index = own.max(dim=0)
            target[place][window] = torch.where(peak > 0.55, index + 1, torch.where(peak < 0.10, 0, 255))
        return recursion, target


def example(options: argparse.Namespace) -> Batch:
    """Blocky images of noise, one to three classes each; half of the images fill the crop."""
    side, batch = options.crop, options.batch
    coarse = torch.randn(batch, 3, 8, 8)
    images = functional.interpolate(coarse, (side, side), mode="nearest") + 0.1 * torch.randn(batch, 3, side, side)
    labels = torch.zeros(batch, CLASSES)
    valid = torch.tensor([[0, 0, side, side], [side // 8, 0, 7 * side // 8, side]]).repeat(batch, 1)[:batch]
    for place, (top, left, bottom, right) in enumerate(valid.tolist()):
        labels[place, torch.randperm(CLASSES)[: 1 + place % 3]] = 1
        inside = torch.zeros(side, side, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        images[place, :, ~inside] = 0
    return {"image": images, "labels": labels, "valid": valid}


def build(options: argparse.Namespace) -> RecurSeed:
    """The network, without dropout, which would draw twice."""
    backbone = backbones.build(resolve(entries("backbone")[options.backbone]), frozen_statistics=False)
    inputs = backbone.channels[LOW], backbone.channels[-1]
    decoder = Decoder(inputs, CLASSES + 1, (1, 2, 4), low=(options.width // 2, 1), width=options.width)
    network = RecurSeed(backbone, CLASSES, decoder).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def main() -> None:
    """Print a line; fails where results differ."""
    options = chosen(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, batch, making = build(options), example(options), Making()
    objective, plain = RecurSeedObjective(network, {"seg": 0, "rec": 0}, making, "valid", ("max", "all")), Plain(network, making)

    expected, their_time = median_time(lambda: stepped(network, lambda: plain(batch)), options.rounds)
    found, our_time = median_time(lambda: stepped(network, lambda: summed(objective(batch, 0)[0])), options.rounds)
    share = apart(found, expected)
    with torch.no_grad():
        scores, decoded, taps = network.both(batch["image"])
    planes, size = (batch["image"], batch["labels"], batch["valid"]), decoded.shape[-2:]
    _, of_targets = median_time(lambda: targets(taps, scores, *planes, size, making), options.rounds)
    print(
        f"a step of RecurSeed on {options.backbone}, B={options.batch}, K={CLASSES}, {options.crop} px, one thread: plain "
        f"{their_time:.2f} s -> ours {our_time:.2f} s ({their_time / our_time:.1f}x), targets {of_targets / our_time:.0%} of it, "
        f"gradients {share:.0e} apart"
    )


def chosen(description: str) -> argparse.Namespace:
    """The options of a command line that measures a step."""
    asked = parser(description, "small", crop=128, batch=16, rounds=5)
    asked.add_argument("--width", type=int, default=64, help="channels of the decoder")
    return asked.parse_args()


if __name__ == "__main__":
    main()
