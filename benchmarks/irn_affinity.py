"""Affinities of IRN's training pairs, forward and backward: minima of minima against gathering every path.

Run from the repository root: python -m benchmarks.irn_affinity [batch]   (one thread; batch 1 unless told)
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional

from refiners.pair_geometry import anchor_region, anchored_minima, directions, path

SIDE, RADIUS, REPEATS = 128, 10, 7  # the boundary grid of a 512 crop


def gather_plan() -> list[torch.Tensor]:
    """Per path length, the flat grid indices [directions,length,anchors] that the public code gathers."""
    cells = torch.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    rows, columns = anchor_region((SIDE, SIDE), RADIUS)
    groups = defaultdict(list)
    for direction in directions(RADIUS):
        planes = [
            cells[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x].flatten() for y, x in path(direction)
        ]
        groups[len(planes)].append(torch.stack(planes))
    return [torch.stack(group) for group in groups.values()]


def gathered(boundary: torch.Tensor, plan: list[torch.Tensor]) -> torch.Tensor:
    """The public code's procedure: gather 2,134 planes, maximum over each path, 1 - that: [B,directions,anchors]."""
    flat, found = boundary.flatten(1), []
    for indices in plan:
        planes = torch.index_select(flat, 1, indices.flatten()).view(len(flat), *indices.shape)
        found.append(1 - functional.max_pool2d(planes, kernel_size=(indices.shape[1], 1))[:, :, 0])
    return torch.cat(found, dim=1)


def nested(boundary: torch.Tensor) -> torch.Tensor:
    """Ours, in the same layout."""
    return anchored_minima(1 - boundary, RADIUS).flatten(2)


def measure(
    function: Callable[[torch.Tensor], torch.Tensor], boundary: torch.Tensor, weights: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Median CPU seconds of forward and backward, and the gradient."""
    spent, gradient = [], torch.empty(0)
    for _ in range(REPEATS):
        leaf = boundary.clone().requires_grad_()
        start = time.process_time()
        function(leaf).backward(weights)
        spent.append(time.process_time() - start)
        if leaf.grad is not None:
            gradient = leaf.grad
    return median(spent), gradient


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    boundary, plan = torch.rand(batch, SIDE, SIDE), gather_plan()
    equal = torch.equal(gathered(boundary, plan), nested(boundary))
    weights = torch.rand_like(nested(boundary))
    theirs, expected = measure(lambda grid: gathered(grid, plan), boundary, weights)
    ours, gradient = measure(nested, boundary, weights)
    difference = ((gradient - expected).abs().max() / expected.abs().max()).item()
    print(f"batch {batch}: gather {theirs:.3f} s, nested minima {ours:.3f} s, {theirs / ours:.1f} times")
    print(f"affinities equal: {equal}; largest difference of the gradient, relative to its maximum: {difference:.1e}")


if __name__ == "__main__":
    main()
