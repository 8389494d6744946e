"""How SEAM and HFPL normalise maps: three rules that differ in the public code. `competing` alone compares classes."""

import torch

EPSILON = 1e-5


def max_normalised(scores: torch.Tensor) -> torch.Tensor:
    """Training: rectified scores [...,h,w] to 0..1, by their maximum and minimum, both with gradient (HFPL: `max_norm`)."""
    rectified = scores.relu()
    low, high = rectified.amin(dim=(-2, -1), keepdim=True), rectified.amax(dim=(-2, -1), keepdim=True)
    return (rectified - low - EPSILON).relu() / (high - low + EPSILON)


@torch.no_grad()
def competing(scores: torch.Tensor) -> torch.Tensor:
    """Before PCM: scores [B,1+K,h,w] to maps of the same shape, background first; gradient ends here.

    Classes are rectified and divided by their maxima; only the highest class of a position keeps its value there. The map of
    background is what that value lacks to 1; the scores of background do not count.
    """
    rectified = scores[:, 1:].relu()
    maps = (rectified - EPSILON).relu() / (rectified.amax(dim=(-2, -1), keepdim=True) + EPSILON)
    return with_own_background(highest_alone(maps))


def with_own_background(maps: torch.Tensor, power: float = 1.0) -> torch.Tensor:
    """Maps of classes [..,K,h,w] to [..,1+K,h,w] with a map of background before them: (1 - their maximum)^power."""
    background = 1 - maps.amax(dim=-3, keepdim=True)
    # rounding may put a maximum above 1, and no power but 1 is defined there
    return torch.cat([background if power == 1 else background.clamp(min=0) ** power, maps], dim=-3)


def highest_alone(maps: torch.Tensor) -> torch.Tensor:
    """Maps of classes [..,K,h,w], 0 wherever another class is higher."""
    return torch.where(maps < maps.amax(dim=-3, keepdim=True), 0, maps)


def min_max_normalised(maps: torch.Tensor) -> torch.Tensor:
    """Inference: sums over scales and mirror images [n,h,w] to 0..1 by their maximum and minimum."""
    rectified = maps.relu()
    low, high = rectified.amin(dim=(-2, -1), keepdim=True), rectified.amax(dim=(-2, -1), keepdim=True)
    kept = torch.where(rectified < low + EPSILON, 0, rectified)
    return (kept - low - EPSILON) / (high - low + EPSILON)
