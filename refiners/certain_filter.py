"""CertainFilter of RecurSeed (Jo, Yu and Kim, arXiv 2204.06754, Eq. 10): maps to labels, where maps are sure enough."""

import torch

from imagesets.item import VOID


def certain(maps: torch.Tensor, foreground: float = 0.55, background: float = 0.10) -> torch.Tensor:
    """Maps [...,n,H,W] of n classes to uint8 [...,H,W]: class index + 1, 0 background, 255 undecided.

    A pixel is of its highest class if that exceeds `foreground`, and background if no class reaches `background`; a value equal
    to one of them is undecided. They are rounded to the precision of the maps. Of equal classes the first wins.
    """
    if maps.shape[-3] == 0:
        return torch.zeros_like(maps.sum(dim=-3), dtype=torch.uint8)
    peak, index = maps.max(dim=-3)
    high, low = (torch.full((), level, dtype=maps.dtype, device=maps.device) for level in (foreground, background))
    return torch.where(peak > high, index + 1, torch.where(peak < low, 0, VOID)).to(torch.uint8)
