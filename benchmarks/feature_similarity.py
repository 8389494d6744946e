"""FSL: a row of the pair matrix after another, against all pairs in matrices that are differentiated, as in the public code.

Run from the repository root: python -m benchmarks.feature_similarity   (half a minute, 1 GB, one thread, Linux)

Forward and backward for one image on the grid of SEAM, with all maps and with those of two classes and background. Prints the CPU
time of both and the growth of the peak resident memory, and fails where losses or gradients differ.
"""

from collections.abc import Callable
from math import pi

import torch

from benchmarks.clock import measured
from maps.feature_similarity import EPSILON, similarity_loss

CHANNELS, SIDE, MU, SIGMA = 21, 56, 2.5, 5.0
BUFFERS = 3 * SIDE**3 * 4 / 2**20  # MB that ours holds for certain, although the allocator may have had them already
Loss = Callable[[torch.Tensor, torch.Tensor, float, float], torch.Tensor]


def pairwise(maps: torch.Tensor, colours: torch.Tensor, mu: float, sigma: float) -> torch.Tensor:
    """The loss of maps [1,C,h,w] and colours [1,3,h,w], every factor a matrix over all pairs (HFPL Eq. 9-13)."""
    height, width = maps.shape[-2:]
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    places = torch.stack([rows, columns], dim=1).to(maps)
    own, other = colours[0].flatten(1)[:, :, None], colours[0].flatten(1)[:, None]
    apart = (own - other).abs().mean(dim=0).clamp(0, 1)
    alike = torch.tanh(mu + torch.log((apart + EPSILON) / (1 - apart + EPSILON)))
    near = torch.exp(-(torch.cdist(places, places) ** 2) / (2 * sigma**2)) / (2 * pi * sigma**2)
    vectors = maps[0].flatten(1).T
    gate = 0.5 * torch.cdist(vectors, vectors) ** 2
    return -(near * alike * gate).sum() / (height * width)


def cost(loss: Loss, maps: torch.Tensor, colours: torch.Tensor, rounds: int) -> tuple[list[torch.Tensor], float, float]:
    """Loss and gradient, the median CPU seconds, and the MB that were added."""

    def work() -> list[torch.Tensor]:
        inputs = maps.clone().requires_grad_()
        found = loss(inputs, colours, MU, SIGMA)
        return [found.detach(), *torch.autograd.grad(found, inputs)]

    work()
    return measured(work, rounds)


def main() -> None:
    """Print a line for each number of maps; fails where the two differ."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    colours = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 9), size=(SIDE, SIDE), mode="bilinear")
    every = torch.nn.functional.interpolate(torch.rand(1, CHANNELS, 9, 9), size=(SIDE, SIDE), mode="bilinear")
    few = every.clone()
    few[:, 3:] = 0
    for name, maps in (("all with values", every), ("three with values", few)):
        ours, our_time, rise = cost(similarity_loss, maps, colours, rounds=9)
        our_memory = max(rise, BUFFERS)
        theirs, their_time, their_memory = cost(pairwise, maps, colours, rounds=3)
        torch.testing.assert_close(ours[0], theirs[0], rtol=2e-4, atol=0)
        torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-4 * theirs[1].abs().max().item())
        print(
            f"FSL, forward and backward, {SIDE}x{SIDE}, C={CHANNELS}, {name}, one thread, CPU: all pairs {their_time:.2f} s, "
            f"{their_memory:.0f} MB -> row by row {our_time:.4f} s, {our_memory:.1f} MB "
            f"({their_time / our_time:.0f}x, {their_memory / our_memory:.0f}x), equal loss and gradient"
        )


if __name__ == "__main__":
    main()
