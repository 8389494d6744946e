"""The feature similarity loss between maps and the colours of an image, summed over all pairs of positions without holding them.

Jonnarth, Zhang and Felsberg, High-fidelity Pseudo-labels for Boosting Weakly-Supervised Segmentation, WACV 2024, Eq. 9-13. With
positions p, colours x and maps y,

    loss = -1 / (B N) * sum over images and ordered pairs of w_ij f_ij |y_i - y_j|^2 / 2
    w_ij = exp(-|p_i - p_j|^2 / (2 sigma^2)) / (2 pi sigma^2)        how near two positions are
    f_ij = tanh(mu + log(d_ij / (1 - d_ij)))                         -1 for equal colours, 1 for very different ones

where d_ij in 0..1 is the mean difference of the colours. The public code (arvijj/hfpl) adds 1e-5 to both parts of the fraction,
and so do we. Only y has a gradient. All pairs count; without those beyond 10 cells (an option there) half the loss is gone.

K = w f is symmetric and free of y. With D = diag(K 1), the loss is -tr(y' (D - K) y) / (B N) and its gradient is
-2 (D - K) y / (B N), so one product gives both. It is made one row of the grid after another, and K_ij serves as K_ji too. No
matrix of all pairs is ever in memory, and the backward pass has nothing left to compute.
"""

from math import exp, pi
from typing import Any

import torch
from torch.autograd.function import once_differentiable

EPSILON = 1e-5


def similarity_loss(
    maps: torch.Tensor, colours: torch.Tensor, mu: float, sigma: float | None, radius: float | None = None
) -> torch.Tensor:
    """The loss of maps y [B,C,h,w] on images [B,3,h,w] in 0..1.

    `sigma` is in cells; None or 0 gives all pairs the weight 1/N. With `radius`, pairs farther than so many cells are left out.
    """
    return _SimilarityLoss.apply(maps, colours.clamp(0, 1), mu, nearness(maps, sigma, radius))


def nearness(maps: torch.Tensor, sigma: float | None, radius: float | None = None) -> torch.Tensor:
    """w from the first row of cells to all cells of maps [B,C,h,w]: [w,h,w]. Other rows have it to those below them."""
    height, width = maps.shape[-2:]
    down, along = (torch.arange(count, dtype=maps.dtype, device=maps.device) for count in (height, width))
    squared = down[None, :, None] ** 2 + (along[:, None, None] - along) ** 2
    near = torch.exp(-squared / (2 * sigma**2)) / (2 * pi * sigma**2) if sigma else torch.full_like(squared, 1 / (height * width))
    return near if radius is None else near * (squared <= radius**2)


class _SimilarityLoss(torch.autograd.Function):
    """The loss; its gradient is made with it."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, colours: torch.Tensor, mu: float, near: torch.Tensor) -> torch.Tensor:
        images, _, height, width = maps.shape
        pulls = pull(maps, colours, mu, near) / (images * height * width)
        ctx.save_for_backward(-2 * pulls)
        # differences count alone; without its mean a map of small contrast loses no digits
        return -((maps - maps.mean(dim=(2, 3), keepdim=True)) * pulls).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None, None


def pull(maps: torch.Tensor, colours: torch.Tensor, mu: float, near: torch.Tensor) -> torch.Tensor:
    """(D - K) y of maps y [B,C,h,w], as [B,C,h,w]; `near` is `nearness`.

    On a CPU it goes image by image, so that a row's pairs stay in the cache, and without the maps that are 0 everywhere, such as
    those of classes that an image does not show.
    """
    if maps.is_cuda:
        return _pull(maps, colours, mu, near)
    made = torch.zeros_like(maps)
    for own, image, result in zip(maps, colours, made, strict=True):
        if (shown := own.flatten(1).any(dim=1)).any():
            result[shown] = _pull(own[shown][None], image[None], mu, near)[0]
    return made


def _pull(maps: torch.Tensor, colours: torch.Tensor, mu: float, near: torch.Tensor) -> torch.Tensor:
    images, _, height, width = maps.shape
    centred = (maps - maps.mean(dim=(2, 3), keepdim=True)).flatten(2)
    values = torch.cat([centred, torch.ones_like(centred[:, :1])], dim=1)  # [B,C+1,N]; their last product with K is K 1
    made = torch.zeros_like(values)
    colours = (colours * (exp(mu) / 3)).flatten(2)
    space = maps.new_empty(2, images * width * height * width)
    for start in range(0, height * width, width):
        row, below = slice(start, start + width), slice(start + width, None)
        pairs = _pairs(colours[:, :, row], colours[:, :, start:], mu, near[:, : height - start // width], space)
        made[:, :, row] += values[:, :, start:] @ pairs.mT
        made[:, :, below] += values[:, :, row] @ pairs[:, :, width:]
    return (made[:, -1:] * centred - made[:, :-1]).unflatten(2, (height, width))


def _pairs(row: torch.Tensor, rest: torch.Tensor, mu: float, near: torch.Tensor, space: torch.Tensor) -> torch.Tensor:
    """K [B,w,M] between the cells of a row and the M cells from this row on; colours are multiplied by exp(mu) / 3.

    tanh(mu + log(q)) is 1 - 2 / (1 + (exp(mu) q)^2), which needs no transcendental function of a pair.
    """
    shape = row.shape[0], row.shape[2], rest.shape[2]
    distances, other = (part[: shape[0] * shape[1] * shape[2]].view(shape) for part in space)
    torch.sub(row[:, 0, :, None], rest[:, 0, None], out=distances).abs_()
    for channel in (1, 2):
        torch.sub(row[:, channel, :, None], rest[:, channel, None], out=other).abs_()
        distances += other
    torch.mul(distances, -exp(-mu), out=other).add_(1 + EPSILON)  # 1 - d + 1e-5
    squared = distances.add_(exp(mu) * EPSILON).div_(other).square_().add_(1)
    grid = (shape[0], *near.shape)
    torch.addcdiv(near, near, squared.view(grid), value=-2, out=other.view(grid))
    return other
