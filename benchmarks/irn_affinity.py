"""IRN's training pairs: minima of minima against gathering every path, and shifted views of the labels against gathered masks.

Run from the repository root: python -m benchmarks.irn_affinity [batch]   (one thread; batch 1 unless told)
"""

import sys
from collections import defaultdict
from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks.clock import median_time
from refiners.irn_losses import pairs
from refiners.pair_geometry import anchor_region, anchored_minima, directions, path

SIDE, RADIUS, REPEATS = 128, 10, 7  # the boundary grid of a 512 crop
CLASSES = 20


def gather_plan(side: int = SIDE) -> list[torch.Tensor]:
    """Per path length, the flat indices [directions,length,anchors] of a square grid that the public code gathers."""
    cells = torch.arange(side * side).reshape(side, side)
    rows, columns = anchor_region((side, side), RADIUS)
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


def pair_plan(side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    """The flat indices of both ends of all pairs in a square grid: far ends [directions,anchors] and anchors [anchors]."""
    cells = torch.arange(side * side).reshape(side, side)
    rows, columns = anchor_region((side, side), RADIUS)
    shifted = [cells[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x] for y, x in directions(RADIUS)]
    return torch.stack([plane.flatten() for plane in shifted]), cells[rows, columns].flatten()


def gathered_masks(labels: torch.Tensor, ends: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """The public code's procedure: both labels of each pair by flat index, then float masks [3,B,directions,anchors]."""
    flat = labels.flatten(1).long()
    first, second = flat[:, starts][:, None], flat[:, ends]
    valid = (first <= CLASSES) & (second <= CLASSES)
    equal = valid & (first == second)
    return torch.stack([(equal & (first == 0)).float(), (equal & (first > 0)).float(), (valid & (first != second)).float()])


def compare_affinities(batch: int) -> None:
    """Forward and backward of both; prints times and how far they are apart."""
    boundary, plan = torch.rand(batch, SIDE, SIDE), gather_plan()
    weights = torch.rand_like(nested(boundary))

    def side(function: Callable[[torch.Tensor], torch.Tensor]) -> tuple[tuple[torch.Tensor, torch.Tensor], float]:
        def work() -> tuple[torch.Tensor, torch.Tensor]:
            leaf = boundary.clone().requires_grad_()
            found = function(leaf)
            return found.detach(), torch.autograd.grad(found, leaf, weights)[0]

        return median_time(work, REPEATS)

    (expected, expected_gradient), theirs = side(lambda grid: gathered(grid, plan))
    (found, gradient), ours = side(nested)
    difference = ((gradient - expected_gradient).abs().max() / expected_gradient.abs().max()).item()
    print(f"affinities, batch {batch}: gather {theirs:.3f} s, nested minima {ours:.3f} s, {theirs / ours:.1f} times")
    print(
        f"  equal: {torch.equal(found, expected)}; largest difference of the gradient, relative to its maximum: {difference:.1e}"
    )


def compare_labels(batch: int) -> None:
    """Both sort the pairs of blocky label maps that hold void; prints times, memory and whether they agree."""
    ends, starts = pair_plan()
    blocks = torch.tensor([0, 3, 7, 255], dtype=torch.uint8)[torch.randint(0, 4, (batch, 8, 8))]
    labels = blocks.repeat_interleave(SIDE // 8, 1).repeat_interleave(SIDE // 8, 2)
    expected, theirs = median_time(lambda: gathered_masks(labels, ends, starts), REPEATS)
    kinds, ours = median_time(lambda: pairs(labels, CLASSES, RADIUS), REPEATS)
    equal = all(torch.equal(kind.flatten(2).float(), mask) for kind, mask in zip(kinds, expected, strict=True))
    print(f"labels, batch {batch}: gather {theirs:.4f} s, shifted views {ours:.4f} s, {theirs / ours:.1f} times")
    kept = sum(kind.nbytes for kind in kinds)
    print(f"  equal: {equal}; masks {expected.nbytes / 1e6:.0f} MB as floats, {kept / 1e6:.0f} MB as truth values")


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    compare_affinities(batch)
    compare_labels(batch)


if __name__ == "__main__":
    main()
