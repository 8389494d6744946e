"""AffinityNet's pairs and walk, ours against the procedures of the public code, with equal results.

Run from the repository root: python -m benchmarks.affinitynet [batch]   (two minutes, one thread; batch 4 unless told)

It prints CPU seconds and memory, and fails where losses, gradients or walked maps differ.
* pairs: the losses and their gradient from feature vectors on the 56 x 56 grid of a 448 crop; the public code gathers
  the features of both ends of all pairs.
* walk: on the 47 x 63 grid of an image of 375 x 500; the public code squares the dense matrix six times.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial

import torch

from benchmarks.clock import measured
from refiners.affinity_pairs import affinities, kinds_of_pairs, losses
from refiners.affinity_walk import neighbours, walk
from refiners.irn_losses import BACKGROUND, DIFFERENT, EPSILON, FOREGROUND
from refiners.pair_geometry import anchors, directions

RADIUS, SIDE, CHANNELS, CLASSES = 5, 56, 448, 20
GRID, BETA, EXP_TIMES = (47, 63), 8, 6

Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def gathered(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The public procedure: features of all pairs by index, three means over the pairs of a kind."""
    cells = torch.arange(features.shape[2] * features.shape[3]).view(features.shape[2:])
    rows, columns = anchors(features.shape[2:], RADIUS)
    moved = [cells[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x] for y, x in directions(RADIUS)]
    starts, ends = cells[rows, columns].flatten(), torch.stack([plane.flatten() for plane in moved])
    flat = features.flatten(2)
    near, far = flat.index_select(2, starts), flat.index_select(2, ends.flatten()).unflatten(2, ends.shape)
    affinity = torch.exp(-(far - near[:, :, None]).abs().mean(dim=1)).transpose(0, 1)
    kinds = kinds_of_pairs(labels, CLASSES, RADIUS).flatten(2)
    equal, different = -torch.log(affinity + EPSILON), -torch.log(1 + EPSILON - affinity)
    weights = ((equal, BACKGROUND, 0.25), (equal, FOREGROUND, 0.25), (different, DIFFERENT, 0.5))
    means = [weight * (values * (kinds == kind)).sum() / ((kinds == kind).sum() + EPSILON) for values, kind, weight in weights]
    return torch.stack(means).sum()


def by_direction(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Ours."""
    found = losses(affinities(features, RADIUS), kinds_of_pairs(labels, CLASSES, RADIUS))
    return torch.stack(list(found.values())).sum()


def with_gradient(function: Losses, features: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """The loss and its gradient."""
    leaf = features.clone(memory_format=torch.preserve_format).requires_grad_()
    found = function(leaf, labels)
    return [found.detach(), *torch.autograd.grad(found, leaf)]


def example(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, channels last as the network makes them, and blocky labels that hold void."""
    blocks = torch.tensor([0, 3, 7, 255], dtype=torch.uint8)[torch.randint(0, 4, (batch, 7, 7))]
    features = torch.randn(batch, CHANNELS, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    return features, blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)


def dense_walk(maps: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The public procedure on a dense matrix of affinities: a power of each element, column sums, six squarings."""
    power = matrix**BETA
    power = power / power.sum(dim=0, keepdim=True)
    for _ in range(EXP_TIMES):
        power = power @ power
    return (maps.flatten(1) @ power).view(maps.shape)


def compare(name: str, sides: Mapping[str, Callable[[], list[torch.Tensor]]], repeats: dict[str, int]) -> None:
    """Print a line for each side and their ratio; fails where their results differ."""
    found, spent = {}, {}
    for side, work in sides.items():
        found[side], spent[side], rise = measured(work, repeats[side])
        print(f"{name}, {side}: {spent[side]:.4f} s, {rise:.0f} MB")
    (ours, published), (own, theirs) = found.values(), spent.values()
    for result, expected in zip(ours, published, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    print(f"  {theirs / own:.1f} times, equal results")


def main() -> None:
    """Compare pairs, then walks."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features, labels = example(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
    pairs = {
        name: partial(with_gradient, function, features, labels)
        for name, function in (("ours", by_direction), ("gathered", gathered))
    }
    compare(f"losses of pairs, batch {len(features)}", pairs, {"ours": 5, "gathered": 3})
    smooth = torch.nn.functional.interpolate(torch.randn(1, CHANNELS, 6, 8), GRID, mode="bicubic")
    affinity, maps = affinities(0.3 * smooth, RADIUS)[:, 0].numpy(), torch.rand(3, *GRID)
    matrix = torch.from_numpy(neighbours(affinity, GRID, RADIUS).toarray())
    walks = {
        "ours": lambda: [walk(maps, affinity, RADIUS, BETA, EXP_TIMES)],
        "dense": lambda: [dense_walk(maps, matrix)],
    }
    compare(f"walk of {len(maps)} maps", walks, {"ours": 9, "dense": 1})


if __name__ == "__main__":
    main()
