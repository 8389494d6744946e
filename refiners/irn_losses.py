"""What IRNet learns: affinities and displacements of pairs of nearby cells, from confident labels (IRN section 4.3).

Symbols of the paper: boundary B, affinity a_ij = 1 - max of B on the path between i and j, displacement D, P+ and P- the
pairs of equal and of different label.

A sum over the two million pairs of an image is a sum over its 16,384 cells, each times a whole number:
* the affinity of a pair is that of one cell, the lowest on its path. So the logarithms are those of cells, and the number is
  that of the pairs whose lowest cell it is (of equal cells the first);
* |D(i) - D(j) - (j - i)| is linear where its sign is known, so the number is the cell's net number of signs. Cells of objects
  have their position added to D, which gives j - i; two background cells need none.
The numbers have no gradient, so nothing as large as the pairs is kept for the backward pass, and no order of summation changes
them. A residual below 1e-5 cells may get the sign of the rounded sum of D and position.
"""

import torch

from refiners.pair_geometry import anchors, minima, partners, summed_at_partners

EPSILON = 1e-5  # added inside each logarithm and to each count (IRN code)
KINDS = NONE, BACKGROUND, FOREGROUND, DIFFERENT = range(4)  # of pairs: both background, both of one object class, different


def losses(
    logits: torch.Tensor, displacement: torch.Tensor, labels: torch.Tensor, classes: int, radius: int
) -> dict[str, torch.Tensor]:
    """The four named losses of boundary logits [B,1,h,w] and displacements [B,2,h,w], each with its weight of one half.

    `labels` uint8 [B,h,w] are 0 for background and 1..classes; a pair with a higher label (255) is in no set. Each loss is a
    mean over pairs; an empty set gives 0.
    Positive affinity: -log(a) over background pairs and over foreground pairs, and the mean of both. Negative: -log(1 - a) over
    pairs of different label. Displacement of foreground, where two cells of one object point at the same centre:
    |D(i) - D(j) - (j - i)|; of background: |D(i) - D(j)|; both are means over the two channels.
    """
    affinity, objects = 1 - torch.sigmoid(logits[:, 0].float()), labels > 0
    field = displacement.float() + _positions(labels) * objects[:, None]
    counts, signs = pair_numbers(affinity, field, labels, classes, radius)
    background, foreground, different = counts
    equal, unequal = -torch.log(affinity + EPSILON), -torch.log(1 - affinity + EPSILON)
    residual = (field.double() * signs).mean(dim=1)  # double precision: the positions cancel out in the sum over cells
    return {
        "positive affinity": (_mean(equal * background, background) + _mean(equal * foreground, foreground)) / 4,
        "negative affinity": _mean(unequal * different, different) / 2,
        "displacement foreground": _mean(residual * objects, foreground) / 2,
        "displacement background": _mean(residual * ~objects, background) / 2,
    }


def _positions(labels: torch.Tensor) -> torch.Tensor:
    """Row and column of every cell of [B,h,w]: [2,h,w]."""
    axes = (torch.arange(side, device=labels.device) for side in labels.shape[1:])
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _mean(sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return (sums.sum() / (counts.sum() + EPSILON)).float()


@torch.no_grad()
def pair_numbers(
    affinity: torch.Tensor, field: torch.Tensor, labels: torch.Tensor, classes: int, radius: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers that make sums over cells from sums over pairs: counts [3,B,h,w] and net signs [B,2,h,w].

    Of affinity [B,h,w], displacements (with positions) [B,2,h,w] and labels [B,h,w].
    """
    # one image at a time keeps a CPU's memory small and its caches full (a third of the time); a GPU wants few large kernels
    at_once = 1 if labels.device.type == "cpu" else len(labels)
    counts, signs = [], []
    for lows, fields, own in zip(*(grids.split(at_once) for grids in (affinity, field, labels)), strict=True):
        kinds = pair_kinds(own, classes, radius)
        counts.append(lowest_cells(lows, kinds, radius))
        signs.append(net_signs(fields, (kinds == BACKGROUND) | (kinds == FOREGROUND), radius))
    return torch.cat(counts, dim=1), torch.cat(signs)


def pair_kinds(labels: torch.Tensor, classes: int, radius: int) -> torch.Tensor:
    """The kind of each pair of labels [B,h,w], as planes uint8 [directions,B,h,w]; pairs from outside the anchors are NONE."""
    known, anchored = labels <= classes, torch.zeros_like(labels, dtype=torch.bool)
    anchored[:, *anchors(labels.shape[1:], radius)] = True
    equal = labels == partners(labels, radius)
    kinds = torch.where(equal, BACKGROUND + (labels > 0).to(torch.uint8), DIFFERENT)
    return kinds * (partners(known, radius) & known & anchored)


def lowest_cells(grid: torch.Tensor, kinds: torch.Tensor, radius: int) -> torch.Tensor:
    """For every cell of `grid` [B,h,w] the number of pairs of each kind on whose path it is the lowest: float32 [3,B,h,w]."""
    images, size = len(grid), grid[0].numel()
    order = grid.flatten(1).argsort(dim=1, stable=True)
    places = torch.arange(size, dtype=torch.int32, device=grid.device)
    ranks = torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places.expand(images, -1))
    # whole numbers select the lowest cell and not only its value: the least rank on a path, counted by kind, image and rank
    least = minima(ranks.view(grid.shape), radius)
    image = torch.arange(images, dtype=torch.int32, device=grid.device)[:, None, None]
    counter = kinds.int().mul_(images).add_(image).mul_(size).add_(least)  # of each pair: [kind, image, rank] in flat memory
    counts = torch.zeros(len(KINDS) * images * size, device=grid.device)
    counts.index_add_(0, counter.flatten(), counts.new_ones(()).expand(counter.numel()))
    by_rank = counts.view(len(KINDS), images, size)[BACKGROUND:]
    return by_rank.gather(2, ranks.long().expand(len(by_rank), -1, -1)).view(-1, *grid.shape)


def net_signs(field: torch.Tensor, chosen: torch.Tensor, radius: int) -> torch.Tensor:
    """The numbers n(i) for which sum of |field(i) - field(j)| over chosen pairs is sum of n(i) field(i) over cells: [B,2,h,w].

    Of `field` [B,2,h,w] and planes `chosen` bool [directions,B,h,w].
    """
    onward = partners(field, radius).sub_(field).sign_().mul_(chosen[:, :, None])
    return summed_at_partners(onward, radius) - onward.sum(dim=0)
