"""RecurSeed's targets and losses: what a network's own maps teach its decoder and itself, as pure functions on tensors.

Jo, Yu and Kim, RecurSeed and EdgePredictMix, arXiv 2204.06754. Its training code was never published; each function says what
is the paper's, what is of the authors' other codes (PuzzleCAM, DHR), and what is ours. From one forward pass, without gradient:

    C = relu(A) / (max A + 1e-5) * y        CAM logits A, image labels y
    M_scg = SCG(C; features) * y            on SCG's grid
    M_rs = PAMR(M_scg)                      on the decoder's grid, inside the image; 0 in the padding (ours)
    M_seg = CertainFilter(M_rs)             Eq. 10, perhaps relabelled by EdgePredict; void in the padding (ours)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from imagesets.item import VOID
from maps.grids import resize, strided
from maps.reading import unit_maximum
from methods.seam import own_classes
from refiners import pamr, scg
from refiners.certain_filter import certain
from refiners.edge_predict import predicted
from training.stage import Context

EPSILON = 1e-5  # added to the maximum of a CAM (first release of RecurSeed's code)


@dataclass(frozen=True)
class Making:
    """How targets are made: which taps SCG compares (1 to 5), pixels per cell of its grid, SCG's and PAMR's parameters.

    `refine` (images, maps, windows) is PAMR, or None. `foreground` and `background` are CertainFilter's thresholds. With
    `edge_predict`, EdgePredict relabels its labels inside the image; with `void_padding` they are void outside, else background.
    """

    layers: Sequence[int] = (5, 4, 3, 2, 1)
    stride: int = 16
    spread: scg.Parameters = field(default_factory=scg.Parameters)
    refine: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] | None = pamr.refined_inside
    foreground: float = 0.55
    background: float = 0.10
    edge_predict: bool = False
    void_padding: bool = True


def normalised_cams(scores: torch.Tensor, labels: torch.Tensor, detached: bool = False) -> torch.Tensor:
    """C of CAM logits [B,K,h,w] and multi-hot labels [B,K]: [B,K,h,w] in 0..1, with gradient also through the maximum.

    With `detached` the maximum is a constant.
    """
    return unit_maximum(scores.relu(), EPSILON, detached) * labels[:, :, None, None]


@torch.no_grad()
def targets(
    taps: Sequence[torch.Tensor],
    scores: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    valid: torch.Tensor,
    size: Sequence[int],
    making: Making,
) -> tuple[torch.Tensor, torch.Tensor]:
    """M_rs [B,K,*size] and M_seg uint8 [B,*size] of a forward pass on normalised images [B,3,H,W].

    `taps` are the backbone's features, `scores` the CAM logits [B,K,h,w], `labels` multi-hot [B,K]. `valid` [B,4] is the image
    inside its padded crop in pixels, `size` the decoder's grid.
    """
    keys, shown = own_classes(labels)
    own = of_keys(normalised_cams(scores, labels), keys)
    found, windows = refined(resize(spread(taps, own, images.shape[-2:], making), size), shown, images, valid, making)
    outside = pamr.outside(windows, size)
    recursion = torch.zeros(*labels.shape, *size, dtype=scores.dtype, device=scores.device)
    recursion.scatter_(1, keys[:, :, None, None].expand_as(found), found.masked_fill(outside[:, None], 0))
    target = certain(recursion, making.foreground, making.background)
    if making.edge_predict:
        target = predicted(recursion, target, windows=windows)
    return recursion, target.masked_fill(outside, VOID) if making.void_padding else target


def refined(
    maps: torch.Tensor, shown: torch.Tensor, images: torch.Tensor, valid: torch.Tensor, making: Making
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps [B,n,h,w] after PAMR, 0 for classes that are not `shown` [B,n], and the images' rectangles [B,4] in cells."""
    grid = maps.shape[-2:]
    windows, maps = in_cells(valid, images.shape[-2:], grid), maps * shown[:, :, None, None]
    return maps if making.refine is None else making.refine(resize(images, grid), maps, windows), windows


def spread(taps: Sequence[torch.Tensor], cams: torch.Tensor, size: Sequence[int], making: Making) -> torch.Tensor:
    """M_scg of CAMs [B,n,h,w] of an image of `size`, on the grid of `making.stride`."""
    grid = strided((size[0], size[1]), making.stride)
    return scg.spread([taps[layer - 1] for layer in making.layers], resize(cams, grid), making.spread)


NORMALISATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "max": normalised_cams,
    "max-detached": lambda scores, labels: normalised_cams(scores, labels, detached=True),
    "sigmoid": lambda scores, labels: scores.sigmoid() * labels[:, :, None, None],
}


def recursion_loss(
    scores: torch.Tensor, recursion: torch.Tensor, labels: torch.Tensor, normalisation: str = "max", over: str = "all"
) -> torch.Tensor:
    """L_rec: the mean of |C - M_rs| * y, with CAM logits [B,K,h,w], M_rs [B,K,H,W] and multi-hot labels [B,K].

    M_rs is resized to the grid of the logits. `normalisation` makes C (Eq. 5 compares unbounded logits with M_rs in 0..1; the
    authors' code for CAMs divides by the maximum). `over` all classes (PuzzleCAM) or those present.
    """
    maps = NORMALISATIONS[normalisation](scores, labels)
    differences = (maps - resize(recursion, scores.shape[-2:])).abs() * labels[:, :, None, None]
    if over == "all":
        return differences.mean()
    return differences.sum() / (labels.sum() * scores[0, 0].numel()).clamp(min=1)


def pooled(scores: torch.Tensor, valid: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Class logits [B,K]: the mean of CAM logits [B,K,h,w] over the cells of the image inside its padded crop of `size`."""
    shown = where_valid(valid, size, scores.shape[-2:])[:, None]
    return (scores * shown).sum(dim=(2, 3)) / shown.sum(dim=(2, 3))


def where_valid(valid: torch.Tensor, size: Sequence[int], grid: Sequence[int]) -> torch.Tensor:
    """Where images lie in their padded crops of `size`, on a `grid` over them: bool [B,h,w]. `valid` [B,4] as for `in_cells`."""
    return ~pamr.outside(in_cells(valid, size, grid), grid)


def in_cells(valid: torch.Tensor, size: Sequence[int], grid: Sequence[int]) -> torch.Tensor:
    """Rectangles [B,4] (top, left, bottom, right) in pixels of a crop of `size`, in cells of a `grid` over it.

    A side lies at the nearest border of cells. Every rectangle has at least one cell.
    """
    borders = [(valid[:, axis::2] * (grid[axis] / size[axis])).round().long().unbind(1) for axis in (0, 1)]
    first = [start.clamp(max=cells - 1) for (start, _), cells in zip(borders, grid, strict=True)]
    last = [end.maximum(start + 1) for (_, end), start in zip(borders, first, strict=True)]
    return torch.stack([*first, *last], dim=1)


def of_keys(planes: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The planes [B,n,h,w] of n classes of each image, `keys` [B,n], from [B,K,h,w]."""
    return planes.gather(1, keys[:, :, None, None].expand(-1, -1, *planes.shape[2:]))


def recursion_problems(context: Context) -> list[str]:
    """A sentence if a network never makes the recursion maps that a mixing needs; its settings hold `losses`."""
    losses = context.settings.losses
    if set(losses) & {"seg", "rec"}:
        return []
    return [f"recurseed.losses={losses} makes no maps that could be mixed; it takes seg or rec beside cls"]
