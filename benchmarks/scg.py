"""SCG with one layer's matrix at a time and one product for all classes, against all matrices at once and class after class.

Run from the repository root: python -m benchmarks.scg   (a minute, 1 GB, one thread, Linux)

Prints the CPU time of both and the growth of the peak resident memory, and fails where their results differ.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch.nn import functional

from benchmarks.clock import measured
from refiners.scg import EPSILON, Parameters, spread

SIDE, CHANNELS = 32, (64, 256, 512, 1024, 2048)  # the layers of ResNet-50 on the grid of a training crop of 512 pixels
BUFFERS = 4 * SIDE**4 * 4 / 2**20  # MB that ours holds for certain, although the allocator may have had them already
OWN = Parameters()


def by_columns(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix divided by the sums of its columns."""
    return matrix / (matrix.sum(dim=0, keepdim=True) + EPSILON)


def stretched(values: torch.Tensor) -> torch.Tensor:
    """Each column of a matrix, or a vector, to 0..1."""
    low, high = values.amin(dim=0), values.amax(dim=0)
    return (values - low) / (high - low + EPSILON)


def plain(features: Sequence[torch.Tensor], cams: torch.Tensor) -> torch.Tensor:
    """`spread` of one image as its description reads."""
    matrices = []
    for layer in features:
        vectors = functional.normalize(layer[0].flatten(1), dim=0, eps=EPSILON)
        cosines = (vectors.T @ vectors).relu()
        similar = torch.where(cosines < OWN.first_threshold, 0, cosines)
        transition = by_columns(similar * (1 - torch.eye(len(similar))))
        second = by_columns(transition @ transition)
        second = torch.where(second < OWN.second_threshold / len(second), 0, second)
        matrices.append(by_columns(torch.maximum(by_columns(similar), second)))
    total = torch.stack(matrices).sum(dim=0)
    maps = []
    for cam in cams[0].flatten(1):
        sides = [stretched(total[:, seeds]).sum(dim=1) for seeds in (cam >= OWN.foreground, cam <= OWN.background)]
        maps.append(stretched((stretched(sides[0]) - stretched(sides[1])).relu()))
    return torch.stack(maps).unflatten(1, cams.shape[-2:])[None]


def example(classes: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Features of all layers, one of few directions at every position, and smooth maps with a maximum of 1."""
    parts = torch.randint(6, (1, SIDE // 4, SIDE // 4)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    layers = [(torch.rand(6, width)[parts] + 0.6 * torch.rand(1, SIDE, SIDE, width)).movedim(3, 1) for width in CHANNELS]
    coarse = torch.rand(1, classes, 5, 5) ** 3
    cams = functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return layers, cams / cams.amax(dim=(2, 3), keepdim=True)


def main() -> None:
    """Print a line for each number of classes; fails where the two forms differ."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for classes in (3, 20):
        given = example(classes)
        spread(*given)
        ours, our_time, rise = measured(partial(spread, *given), rounds=5)
        our_memory = max(rise, BUFFERS)
        theirs, their_time, their_memory = measured(partial(plain, *given), rounds=5)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        print(
            f"SCG, five layers, {SIDE}x{SIDE}, {classes} classes, one thread, CPU: all at once {their_time:.2f} s, "
            f"{their_memory:.0f} MB -> one by one {our_time:.2f} s, {our_memory:.0f} MB ({their_time / our_time:.1f}x, "
            f"{their_memory / our_memory:.1f}x), equal"
        )


if __name__ == "__main__":
    main()
