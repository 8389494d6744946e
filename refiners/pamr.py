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
from maps.labelling import label_map
from maps.maps import Maps
from training.stage import Context, Settings

EPSILON = 1e-8  # added to sigma s: a pixel in an area of one colour has equal neighbours
DILATIONS = (1, 2, 4, 8, 12, 24)
AT_ONCE = 2**16  # values of maps that a CPU refines at a time


@torch.no_grad()
def refined(
    images: torch.Tensor,
    maps: torch.Tensor,
    dilations: Sequence[int] = DILATIONS,
    iterations: int = 10,
    sigma: float = 0.1,
    windows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Maps [B,n,H,W], refined on images [B,3,H,W] of the same size: [B,n,H,W].

    With `windows` [B,4], see `refined_inside`, an image's border is that of its window; what is outside means nothing.
    """
    if images.shape[-2:] != maps.shape[-2:]:
        raise ValueError(f"images of {tuple(images.shape[-2:])} and maps of {tuple(maps.shape[-2:])} must have one size")
    if maps.numel() == 0:
        return maps
    around = Neighbours(dilations, maps.shape[-2:], windows)
    weights = affinities(images, around, sigma).unsqueeze(2)
    for _ in range(iterations):
        total = torch.zeros_like(maps)
        for place, shifted in enumerate(around.of(maps)):
            total.addcmul_(weights[:, place], shifted)
        maps = total
    return maps


@torch.no_grad()
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
    # a CPU refines small maps of several images at once, because each of many operations has a price, and large ones one by one,
    # in its cache and without what lies outside
    at_once = len(maps) if maps.is_cuda else max(1, AT_ONCE // max(1, maps[0].numel()))
    parts = zip(*(given.split(at_once) for given in (images, maps, windows)), strict=True)
    found = [_refined_inside(image, own, window, (dilations, iterations, sigma)) for image, own, window in parts]
    return torch.cat(found)


def _refined_inside(
    images: torch.Tensor, maps: torch.Tensor, windows: torch.Tensor, parameters: tuple[Sequence[int], int, float]
) -> torch.Tensor:
    if maps.is_cuda:  # which would wait for a look at the windows
        found, beyond = refined(images, maps, *parameters, windows), outside(windows, maps.shape[-2:])
        return found.masked_fill_(beyond[:, None], 0)
    top, left, bottom, right = *windows[:, :2].amin(dim=0).tolist(), *windows[:, 2:].amax(dim=0).tolist()
    cut = ..., slice(top, bottom), slice(left, right)
    own = windows - torch.tensor([top, left, top, left])
    beyond = outside(own, (bottom - top, right - left))
    found = torch.zeros_like(maps)
    inside = refined(images[cut], maps[cut], *parameters, own if beyond.any() else None)
    found[cut] = inside.masked_fill_(beyond[:, None], 0)
    return found


def outside(windows: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Which cells of grids of `size` (h,w) lie outside of `windows` [B,4] (top, left, bottom, right): bool [B,h,w]."""
    rows, columns = (torch.arange(side, device=windows.device) for side in size)
    top, left, bottom, right = windows[:, :, None, None].unbind(1)
    down, along = rows[:, None], columns[None]
    return (down < top) | (down >= bottom) | (along < left) | (along >= right)


class Neighbours:
    """The eight neighbours of every pixel of planes of `size` at each dilation; beyond a window, its border goes on."""

    def __init__(self, dilations: Sequence[int], size: Sequence[int], windows: torch.Tensor | None = None) -> None:
        self.dilations, self.size, self.reach = dilations, size, max(dilations)
        self.places = None if windows is None else _nearest_inside(windows, size)

    def of(self, planes: torch.Tensor) -> Iterator[torch.Tensor]:
        """[B,C,H,W] shifted by each neighbour: eight views [B,C,H,W] per dilation, row by row without the middle."""
        if self.places is not None:
            planes = planes.flatten(2).gather(2, self.places[:, None].expand(-1, planes.shape[1], -1)).view_as(planes)
        reach, (height, width) = self.reach, self.size
        padded = functional.pad(planes, (reach, reach, reach, reach), mode="replicate")
        for dilation in self.dilations:
            for down in (-dilation, 0, dilation):
                for along in (-dilation, 0, dilation):
                    if down or along:
                        yield padded[..., reach + down : reach + down + height, reach + along : reach + along + width]


def _nearest_inside(windows: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """For every cell of a grid of `size` the number of the nearest cell inside windows [B,4]: [B,h*w]."""
    rows, columns = (
        torch.arange(side, device=windows.device).clamp(windows[:, axis, None], windows[:, axis + 2, None] - 1)
        for axis, side in enumerate(size)
    )
    return (rows[:, :, None] * size[1] + columns[:, None]).flatten(1).clamp(min=0)  # a window may be empty


def affinities(images: torch.Tensor, around: Neighbours, sigma: float) -> torch.Tensor:
    """The weights a(p,q) of images [B,3,H,W]: [B,8 per dilation,H,W], which sum to 1 over the neighbours of a pixel."""
    scale = (sigma * spread(images, around)).add_(EPSILON).mul_(images.shape[1]).reciprocal_()
    found = images.new_empty(len(images), 8 * len(around.dilations), *images.shape[-2:])
    for place, shifted in enumerate(around.of(images)):
        torch.sum((shifted - images).abs_().mul_(scale), dim=1, out=found[:, place])
    found.sub_(found.amin(dim=1, keepdim=True)).neg_().exp_()
    return found.div_(found.sum(dim=1, keepdim=True))


def spread(images: torch.Tensor, around: Neighbours) -> torch.Tensor:
    """The unbiased deviation s of every colour over the 3x3 windows around each pixel: [B,3,H,W] to [B,3,H,W].

    It is made of differences to the middle, whose squares lose no digits where colours hardly vary.
    """
    total, squares = torch.zeros_like(images), torch.zeros_like(images)
    for shifted in around.of(images):
        difference = shifted - images
        total.add_(difference)
        squares.addcmul_(difference, difference)
    count = 9 * len(around.dilations)
    return squares.addcmul_(total, total, value=-1 / count).clamp_(min=0).div_(count - 1).sqrt_()


def maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `pamr` before another refiner: refined maps on the grid of `stride`.

    A background map of the method's own is refined with them and stays the first.
    """

    def one(item: Item) -> dict[str, np.ndarray]:
        found = context.inputs["maps"][item.id]
        return Maps(found.keys, found.size, (_on(item.rgb(), found.planes(full=True), context).numpy(),)).arrays()

    return one


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `pamr`: the refined maps, cut at `seed_threshold` or by a background map of the method's own."""

    def one(item: Item) -> dict[str, np.ndarray]:
        found = context.inputs["maps"][item.id]
        if len(found.keys) == 0:
            return {"label": np.zeros(found.size, np.uint8)}
        planes = resize(_on(item.rgb(), found.planes(full=True), context), found.size)
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
