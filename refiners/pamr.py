"""PAMR, pixel-adaptive mask refinement: every pixel of a map takes the mean of neighbours of its own colour, again and again.

Araslanov and Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020 (visinf/1-stage-wseg). Neighbours q of a pixel
p are the eight of a 3x3 window at every dilation: 48 with six dilations. Colours I, the spread s_p of a colour around p, maps m:

    k(p,q) = mean over colours of -|I_p - I_q| / (1e-8 + sigma s_p)
    a(p,.) = softmax of k(p,.);   m_p <- sum over q of a(p,q) m_q

RecurSeed's paper prints s squared and no sigma; its code is visinf's, and so are we. s_p is the unbiased deviation over the nine
pixels of all windows, so p itself counts once per dilation. Beyond its border an image goes on with the border's pixels.

The division by s makes the weights free of the scale and the offset of each colour: RGB and normalised images give the same.
Neighbours are slices of one padded image, so the 48 copies of every map that unfolding makes are never in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from imagesets.item import VOID, Item
from maps.grids import resize, strided
from maps.maps import Maps
from refiners.threshold import label_map
from training.stage import Context, Settings

EPSILON = 1e-8  # added to sigma s: a pixel in an area of one colour has equal neighbours
DILATIONS = (1, 2, 4, 8, 12, 24)


@torch.no_grad()
def refined(
    images: torch.Tensor,
    maps: torch.Tensor,
    dilations: Sequence[int] = DILATIONS,
    iterations: int = 10,
    sigma: float = 0.1,
) -> torch.Tensor:
    """Maps [B,n,H,W], refined on images [B,3,H,W] of the same size: [B,n,H,W]."""
    if images.shape[-2:] != maps.shape[-2:]:
        raise ValueError(f"images of {tuple(images.shape[-2:])} and maps of {tuple(maps.shape[-2:])} must have one size")
    if maps.numel() == 0:
        return maps
    weights = affinities(images, dilations, sigma).unsqueeze(2)
    for _ in range(iterations):
        total = torch.zeros_like(maps)
        for place, shifted in enumerate(neighbours(maps, dilations)):
            total.addcmul_(weights[:, place], shifted)
        maps = total
    return maps


def refined_inside(
    images: torch.Tensor,
    maps: torch.Tensor,
    windows: torch.Tensor,
    dilations: Sequence[int] = DILATIONS,
    iterations: int = 10,
    sigma: float = 0.1,
) -> torch.Tensor:
    """`refined` inside one window per image, 0 outside; an image's border is that of its window.

    `windows` [B,4] are (top, left, bottom, right) in cells of the maps. RecurSeed's domain W is the part of a padded crop that
    shows the image (our reading; a softmax is 0 nowhere, so "the active region" of a map cannot be meant literally).
    """
    found = torch.zeros_like(maps)
    for own, image, result, (top, left, bottom, right) in zip(maps, images, found, windows.tolist(), strict=True):
        part = ..., slice(top, bottom), slice(left, right)
        result[part] = refined(image[part][None], own[part][None], dilations, iterations, sigma)[0]
    return found


def outside(windows: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Which cells of grids of `size` (h,w) lie outside of `windows` [B,4] (top, left, bottom, right): bool [B,h,w]."""
    rows, columns = (torch.arange(side, device=windows.device) for side in size)
    top, left, bottom, right = windows[:, :, None, None].unbind(1)
    down, along = rows[:, None], columns[None]
    return (down < top) | (down >= bottom) | (along < left) | (along >= right)


def affinities(images: torch.Tensor, dilations: Sequence[int], sigma: float) -> torch.Tensor:
    """The weights a(p,q) of images [B,3,H,W]: [B,8 per dilation,H,W], which sum to 1 over the neighbours of a pixel."""
    scale = (sigma * spread(images, dilations)).add_(EPSILON).mul_(images.shape[1]).reciprocal_()
    found = images.new_empty(len(images), 8 * len(dilations), *images.shape[-2:])
    for place, shifted in enumerate(neighbours(images, dilations)):
        torch.sum((shifted - images).abs_().mul_(scale), dim=1, out=found[:, place])
    found.sub_(found.amin(dim=1, keepdim=True)).neg_().exp_()
    return found.div_(found.sum(dim=1, keepdim=True))


def spread(images: torch.Tensor, dilations: Sequence[int]) -> torch.Tensor:
    """The unbiased deviation s of every colour over the 3x3 windows around each pixel: [B,3,H,W] to [B,3,H,W].

    It is made of differences to the middle, whose squares lose no digits where colours hardly vary.
    """
    total, squares = torch.zeros_like(images), torch.zeros_like(images)
    for shifted in neighbours(images, dilations):
        difference = shifted - images
        total.add_(difference)
        squares.addcmul_(difference, difference)
    count = 9 * len(dilations)
    return squares.addcmul_(total, total, value=-1 / count).clamp_(min=0).div_(count - 1).sqrt_()


def neighbours(planes: torch.Tensor, dilations: Sequence[int]) -> Iterator[torch.Tensor]:
    """[B,C,H,W] shifted by each neighbour: eight views [B,C,H,W] per dilation, row by row without the middle."""
    reach, (height, width) = max(dilations), planes.shape[-2:]
    padded = functional.pad(planes, (reach, reach, reach, reach), mode="replicate")
    for dilation in dilations:
        for down in (-dilation, 0, dilation):
            for along in (-dilation, 0, dilation):
                if down or along:
                    yield padded[..., reach + down : reach + down + height, reach + along : reach + along + width]


def maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `pamr` before another refiner: refined maps on the grid of `stride`.

    A background map of the method's own is refined with them and stays the first.
    """

    def one(item: Item) -> dict[str, np.ndarray]:
        found = context.inputs["maps"][item.id]
        return Maps(found.keys, found.size, (_on(item.rgb(), _planes(found), context).numpy(),)).arrays()

    return one


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `pamr`: the refined maps, cut at `seed_threshold` or by a background map of the method's own."""

    def one(item: Item) -> dict[str, np.ndarray]:
        found = context.inputs["maps"][item.id]
        if len(found.keys) == 0:
            return {"label": np.zeros(found.size, np.uint8)}
        planes = resize(_on(item.rgb(), _planes(found), context), found.size)
        own = len(planes) - len(found.keys)
        background = planes[0] if own else context.settings.seed_threshold
        return {"label": label_map(planes[own:], found.keys, background)}

    return one


def masks_of_masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `pamr` after another refiner: the labels of that refiner, refined as one map each.

    255 stays 255: there colours alone would decide, and a segmenter would learn the guess.
    """
    records = context.inputs["masks"]

    def one(item: Item) -> dict[str, np.ndarray]:
        label = records[item.id]["label"]
        present = np.unique(label[label != VOID])
        if len(present) < 2:
            return {"label": label}
        planes = torch.from_numpy((label == present[:, None, None]).astype(np.float32))
        refined = resize(_on(item.rgb(), planes, context), label.shape).argmax(dim=0).numpy()
        return {"label": np.where(label == VOID, label, present[refined])}

    return one


def _planes(maps: Maps) -> torch.Tensor:
    """All maps at full size, a background map of the method's own first: [n,H,W] or [1+n,H,W]."""
    own = maps.background(full=True)
    return maps.full() if own is None or len(maps.keys) == 0 else torch.cat([own[None], maps.full()])


def _on(rgb: np.ndarray, planes: torch.Tensor, context: Context) -> torch.Tensor:
    """Planes [n,H,W], refined on the image uint8 [H,W,3], both on the grid of `stride`: [n,h,w]."""
    size = strided((rgb.shape[0], rgb.shape[1]), context.settings.stride)
    if len(planes) == 0:
        return torch.zeros((0, *size))
    image = torch.from_numpy(rgb.copy()).movedim(2, 0).float() / 255
    image, planes = (resize(given, size)[None].to(context.device) for given in (image, planes))
    return refined(image, planes, **of(context.settings))[0].cpu()


def of(settings: Settings) -> dict[str, Any]:
    """The parameters of `refined` in the settings of pamr.yaml."""
    return {name: getattr(settings, name) for name in ("dilations", "iterations", "sigma")}
