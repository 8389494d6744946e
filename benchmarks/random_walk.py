"""IRN's random walk: Chebyshev series of sparse products against repeated squaring of the dense transition matrix.

Run from the repository root: python -m benchmarks.random_walk (about two minutes, 3 GB, one thread)
"""

import numpy as np
import torch

from benchmarks.clock import median_time
from refiners.pair_geometry import path_minima
from refiners.random_walk import neighbourhood, walk

FULL, SMALL = (94, 125), (47, 63)  # stride-4 grid of a 375 x 500 image; a grid whose 8 squarings take seconds
CLASSES, RADIUS, BETA, EXP_TIMES = 2, 5, 10, 8


def example(size: tuple[int, int], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth maps [2,h,w] and a boundary map [h,w] with a few closed contours."""
    noise = torch.from_numpy(rng.random((CLASSES + 1, 1, size[0] // 6, size[1] // 6), np.float32))
    smooth = torch.nn.functional.interpolate(noise, size=size, mode="bicubic", align_corners=False)[:, 0].clamp(0, 1)
    contour = torch.exp(-(((smooth[0] - 0.5) / 0.05) ** 2))
    return smooth[1:], 0.02 + 0.9 * contour


def transition(boundary: torch.Tensor) -> torch.Tensor:
    """The dense column-normalised transition matrix [h*w,h*w] of the public code."""
    affinities = {way: least.numpy() for way, least in path_minima((1 - boundary) ** BETA, RADIUS).items()}
    matrix = torch.from_numpy(neighbourhood(affinities, boundary.shape).toarray())
    return matrix / matrix.sum(dim=0, keepdim=True)


def dense_walk(maps: torch.Tensor, boundary: torch.Tensor) -> torch.Tensor:
    """The public code's procedure: square the matrix `EXP_TIMES` times, multiply once."""
    matrix = transition(boundary)
    for _ in range(EXP_TIMES):
        matrix = matrix @ matrix
    return ((maps * (1 - boundary)).flatten(1) @ matrix).reshape(maps.shape)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    maps, boundary = example(SMALL, rng)
    found, small = median_time(lambda: walk(maps, boundary))
    expected, small_dense = median_time(lambda: dense_walk(maps, boundary), rounds=1)
    difference = (found - expected).abs().max().item()
    print(f"{SMALL}: ours {small:.4f} s, dense {small_dense:.2f} s, {small_dense / small:.0f} times; differ by {difference:.1e}")
    maps, boundary = example(FULL, rng)
    _, ours = median_time(lambda: walk(maps, boundary), rounds=9)
    matrix = transition(boundary)
    _, squaring = median_time(lambda: matrix @ matrix, rounds=1)
    dense = EXP_TIMES * squaring
    print(
        f"{FULL}: ours {ours:.4f} s; one dense squaring {squaring:.1f} s, {EXP_TIMES} of them {dense:.0f} s (not run to the end)"
    )
    print(f"{FULL}: {dense / ours:.0f} times")


if __name__ == "__main__":
    main()
