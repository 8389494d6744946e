"""SEAM's pixel correlation module (PCM): a map spreads to positions whose features are alike.

Wang et al., Self-supervised Equivariant Attention Mechanism for Weakly Supervised Semantic Segmentation, CVPR 2020, as in the
public code: the weights of all positions are the rectified cosines to one position, divided by their sum + 1e-5.

The N x N matrix of cosines is never whole in memory. The sum of a column is one more row of the product with the maps, so a
block of columns needs nothing of the others. The gradient computes the cosines of each block anew.
"""

from collections.abc import Iterator
from typing import Any

import torch

EPSILON = 1e-5  # added to norms and sums of weights (SEAM code)
BLOCK = 2**21  # cosines in memory at a time: 8 MB, which a cache holds


def correlated(maps: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Maps [B,m,h,w], spread over positions whose features [B,D,h,w] are alike: [B,m,h,w].

    Gradient reaches the features alone: SEAM detaches the maps.
    """
    vectors = features.flatten(2)
    vectors = vectors / (vectors.norm(dim=1, keepdim=True) + EPSILON)
    rows = torch.cat([maps.flatten(2), torch.ones_like(maps[:, :1].flatten(2))], dim=1).detach()
    spread: torch.Tensor = _Spread.apply(rows, vectors)
    return (spread[:, :-1] / (spread[:, -1:] + EPSILON)).unflatten(2, maps.shape[2:])


class _Spread(torch.autograd.Function):
    """Rows [B,m,N] times the rectified products of vectors [B,D,N]: P relu(Z'Z), with the gradient of Z."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows, vectors)
        spread = torch.empty_like(rows)
        for columns in _blocks(vectors):
            torch.bmm(rows, _products(vectors, columns).relu_(), out=spread[..., columns])
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:  # type: ignore[override]
        rows, vectors = ctx.saved_tensors
        # with W = P'G, the gradient of Z is Z (W + W') where cosines are positive, and W + W' = [P;G]'[G;P]
        both, swapped = torch.cat([rows, gradient], dim=1), torch.cat([gradient, rows], dim=1)
        found = torch.empty_like(vectors)
        for columns in _blocks(vectors):
            weights = _transposed(both) @ swapped[..., columns]
            weights.masked_fill_(_products(vectors, columns) <= 0, 0)
            found[..., columns] = vectors @ weights
        return None, found


def _products(vectors: torch.Tensor, columns: slice) -> torch.Tensor:
    """[B,D,N] to the products [B,N,n] of all vectors with those of n columns."""
    return _transposed(vectors) @ vectors[..., columns]


def _transposed(matrices: torch.Tensor) -> torch.Tensor:
    return matrices.transpose(1, 2)


def _blocks(vectors: torch.Tensor) -> Iterator[slice]:
    """Slices of columns whose products with all vectors fit `BLOCK`."""
    batch, _, positions = vectors.shape
    width = max(1, BLOCK // (batch * positions))
    return (slice(start, start + width) for start in range(0, positions, width))
