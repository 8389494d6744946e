"""Exact k-means by cosine, as LPCAM uses it, over vectors that need not fit in memory.

We keep the published variant (kmeans-pytorch 0.3). A vector joins the centre of the highest cosine. A centre moves to
the arithmetic mean of its members, whose lengths count (so this is not spherical k-means). The end comes
when the summed shift of all centres, squared, is below a tolerance. We differ in two points. One pass holds K x C sums and one
chunk of vectors; the published code holds N x K x C differences. An empty cluster keeps its centre; in the published code it
becomes NaN and the loop never ends.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch.nn import functional

Chunks = Callable[[], Iterable[torch.Tensor]]  # starts a new pass over all vectors, float32 [n,C] at a time


def assign(vectors: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Index [N] of the centre [K,C] with the smallest cosine distance to each vector [N,C], the lowest index on a tie.

    A vector's own length does not change which centre is nearest, so only centres are normalised. An all-zero vector is
    equally near to all centres and joins the first.
    """
    return (vectors @ functional.normalize(centres, dim=1).T).argmax(dim=1)


def update(chunks: Iterable[torch.Tensor], centres: torch.Tensor) -> torch.Tensor:
    """One Lloyd iteration: centres [K,C] to the means [K,C] of the vectors nearest to each; an empty cluster stays.

    It computes on the device of the centres.
    """
    sums = torch.zeros_like(centres, dtype=torch.float64)  # float64: the chunk size does not change the float32 result
    counts = torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
    for vectors in (chunk.to(centres.device) for chunk in chunks):
        nearest = assign(vectors, centres)
        sums.index_add_(0, nearest, vectors.double())
        counts += torch.bincount(nearest, minlength=len(centres))
    means = (sums / counts.clamp(min=1)[:, None]).to(centres.dtype)
    return torch.where(counts[:, None] > 0, means, centres)


def lloyd(chunks: Chunks, centres: torch.Tensor, tolerance: float, max_iterations: int) -> tuple[torch.Tensor, int]:
    """k-means from initial `centres` [K,C]; returns the last centres and the number of iterations.

    It ends when (sum over centres of the length of their shift)^2 < `tolerance`, tested after the centres have moved,
    or when nothing moves.
    """
    iterations, shift = 0, math.inf
    while shift > 0 and shift**2 >= tolerance and iterations < max_iterations:
        moved = update(chunks(), centres)
        shift = (moved - centres).norm(dim=1).sum().item()
        centres, iterations = moved, iterations + 1
    return centres, iterations


def initial_rows(total: int, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """The rows of the first centres: `clusters` distinct rows, drawn uniformly, or all if there are fewer."""
    return rng.choice(total, min(total, clusters), replace=False)
