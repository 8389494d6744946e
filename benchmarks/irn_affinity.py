"""IRN's four losses and their gradients: sums over cells against gathering every path and every pair, as the public code does.

Run from the repository root: python -m benchmarks.irn_affinity [batch]   (one thread; batch 4 unless told)

Prints CPU seconds, memory and the number of torch's operations (about as many kernels on a GPU, where ours are those of batch 1
whatever the batch), and fails where losses or gradients differ.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.clock import measured
from refiners.irn_losses import EPSILON, losses
from refiners.pair_geometry import anchors, directions, path

SIDE, RADIUS, REPEATS = 128, 10, 5  # the boundary grid of a 512 crop
CLASSES = 20

Losses = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]


class Published:
    """The public code's procedure on a square grid. Indices of cells: one tensor [directions,length,anchors] per path length."""

    def __init__(self, side: int = SIDE) -> None:
        cells = torch.arange(side * side).reshape(side, side)
        rows, columns = anchors((side, side), RADIUS)
        groups = defaultdict(list)
        for direction in directions(RADIUS):
            moved = [cells[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x] for y, x in path(direction)]
            groups[len(moved)].append(torch.stack([plane.flatten() for plane in moved]))
        self.paths = [torch.stack(group) for group in groups.values()]
        self.starts, self.ends = cells[rows, columns].flatten(), torch.cat([group[:, 0] for group in self.paths])
        self.offsets = torch.tensor(directions(RADIUS), dtype=torch.float32).T[None, :, :, None]

    def masks(self, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Background, foreground and different pairs, each float32 [B,directions,anchors]."""
        flat = labels.flatten(1).long()
        first, second = flat[:, self.starts][:, None], flat[:, self.ends]
        valid = (first <= CLASSES) & (second <= CLASSES)
        equal = valid & (first == second)
        return (equal & (first == 0)).float(), (equal & (first > 0)).float(), (valid & (first != second)).float()

    def affinity(self, boundary: torch.Tensor) -> torch.Tensor:
        """Gather 2,134 planes, the maximum over each path, 1 - that: [B,directions,anchors]."""
        flat, found = boundary.flatten(1), []
        for indices in self.paths:
            planes = torch.index_select(flat, 1, indices.flatten()).view(len(flat), *indices.shape)
            found.append(1 - functional.max_pool2d(planes, kernel_size=(indices.shape[1], 1))[:, :, 0])
        return torch.cat(found, dim=1)

    def losses(self, logits: torch.Tensor, displacement: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """As `refiners.irn_losses.losses`."""
        background, foreground, different = self.masks(labels)
        affinity, flat = self.affinity(torch.sigmoid(logits)), displacement.flatten(2)
        moved = flat[..., self.starts][:, :, None] - flat[..., self.ends.flatten()].unflatten(2, self.ends.shape)
        equal, unequal = -torch.log(affinity + EPSILON), -torch.log(1 + EPSILON - affinity)
        apart, still = (moved - self.offsets).abs(), moved.abs()

        def mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return (values * mask).sum() / (mask.sum() + EPSILON)

        return {
            "positive affinity": (mean(equal, background) + mean(equal, foreground)) / 4,
            "negative affinity": mean(unequal, different) / 2,
            "displacement foreground": mean(apart, foreground[:, None]) / 4,
            "displacement background": mean(still, background[:, None]) / 4,
        }


def example(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, displacements, and blocky label maps that hold void."""
    blocks = torch.tensor([0, 3, 7, 255], dtype=torch.uint8)[torch.randint(0, 4, (batch, 8, 8))]
    labels = blocks.repeat_interleave(SIDE // 8, 1).repeat_interleave(SIDE // 8, 2)
    return torch.randn(batch, 1, SIDE, SIDE), torch.randn(batch, 2, SIDE, SIDE), labels


def with_gradients(
    function: Losses, logits: torch.Tensor, displacement: torch.Tensor, labels: torch.Tensor
) -> list[torch.Tensor]:
    """The losses [4] and the gradients of their sum."""
    leaves = [logits.clone().requires_grad_(), displacement.clone().requires_grad_()]
    found = torch.stack(list(function(leaves[0], leaves[1], labels).values()))
    return [found.detach(), *torch.autograd.grad(found.sum(), leaves)]


def over_cells(logits: torch.Tensor, displacement: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Ours."""
    return losses(logits, displacement, labels, CLASSES, RADIUS)


class Operations(TorchDispatchMode):
    """Counts torch's operations inside it, but for views."""

    count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not operation.is_view
        return operation(*args, **(kwargs or {}))


def main() -> None:
    """Prints one line for each side; fails where they differ."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    given = example(batch)
    sides: dict[str, Losses] = {"over cells": over_cells, "gathered": Published().losses}
    found, spent = {}, {}
    for name, function in sides.items():
        work = partial(with_gradients, function, *given)
        found[name], spent[name], rise = measured(work, REPEATS)
        with Operations() as seen:
            work()
        print(f"IRN's losses, batch {batch}, {name}: {spent[name]:.3f} s, {rise:.0f} MB, {seen.count} operations")
    (own, *own_gradients), (expected, *gradients) = found.values()
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=0)
    for gradient, reference in zip(own_gradients, gradients, strict=True):
        # a pair whose displacements fit to a rounding error may push either way
        torch.testing.assert_close(gradient, reference, rtol=0, atol=5e-3 * reference.abs().max().item())
    print(f"  {spent['gathered'] / spent['over cells']:.1f} times, equal losses and gradients")


if __name__ == "__main__":
    main()
