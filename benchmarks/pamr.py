"""PAMR by shifted slices of one padded map, against the unfolded form of the public codes (a copy of every map per neighbour).

Run from the repository root: python -m benchmarks.pamr   (a minute, 2 GB, one thread, Linux)

Prints the CPU time of both and the growth of the peak resident memory, and fails where their results differ.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch.nn import functional

from benchmarks.clock import measured
from refiners.pamr import DILATIONS, EPSILON, refined

CASES = ((128, 21), (128, 3), (256, 3))  # side and number of maps: a training image, few classes, a larger grid
BUFFER = 48 * 4 / 2**20  # MB per pixel that ours holds for certain, although the allocator may have had them already


def unfolded(images: torch.Tensor, dilations: Sequence[int]) -> torch.Tensor:
    """Planes [B,C,H,W] to their 3x3 windows at every dilation: [B,C,9 per dilation,H,W]."""
    found = []
    for dilation in dilations:
        padded = functional.pad(images, (dilation,) * 4, mode="replicate")
        found.append(functional.unfold(padded, 3, dilation).unflatten(1, (images.shape[1], 9)).unflatten(3, images.shape[2:]))
    return torch.cat(found, dim=2)


def plain(
    images: torch.Tensor, maps: torch.Tensor, dilations: Sequence[int] = DILATIONS, iterations: int = 10, sigma: float = 0.1
) -> torch.Tensor:
    """`refined` with all neighbours of all maps in memory."""
    around = [place for place in range(9 * len(dilations)) if place % 9 != 4]
    windows = unfolded(images, dilations)
    spread = windows.std(dim=2, keepdim=True)
    weights = (-(windows[:, :, around] - images[:, :, None]).abs() / (EPSILON + sigma * spread)).mean(dim=1).softmax(dim=1)
    for _ in range(iterations):
        maps = (unfolded(maps, dilations)[:, :, around] * weights[:, None]).sum(dim=2)
    return maps


def scene(side: int, maps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth image [1,3,side,side] and smooth maps [1,maps,side,side]."""
    coarse = torch.rand(1, 3 + maps, 9, 9)
    planes = functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
    return planes[:, :3] + 0.05 * torch.rand(1, 3, side, side), planes[:, 3:]


def main() -> None:
    """Print a line for each case; fails where the two forms differ."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for side, maps in CASES:
        given = scene(side, maps)
        ours, our_time, rise = measured(partial(refined, *given), rounds=3)
        our_memory = max(rise, BUFFER * side**2)
        theirs, their_time, their_memory = measured(partial(plain, *given), rounds=3)
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
        print(
            f"PAMR, 10 iterations, {side}x{side}, {maps} maps, one thread, CPU: unfolded {their_time:.2f} s, "
            f"{their_memory:.0f} MB -> by shifts {our_time:.3f} s, {our_memory:.0f} MB ({their_time / our_time:.1f}x, "
            f"{their_memory / our_memory:.0f}x), equal"
        )


if __name__ == "__main__":
    main()
