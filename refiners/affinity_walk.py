"""AffinityNet's random walk (Ahn & Kwak, CVPR 2018): maps on the stride-8 grid spread along the learnt affinities.

The public code makes the dense matrix of affinities (2,961 x 2,961 for a 375 x 500 image), takes each element to a power, divides
columns by their sums and squares it six times. Here the matrix is sparse and is never squared: see `random_walk`.
"""

import numpy as np
import torch
from scipy.sparse import dia_array
from torch.nn import functional

from maps.grids import resize
from maps.labelling import label_map
from refiners.affinity_network import CELL
from refiners.pair_geometry import anchors, directions
from refiners.random_walk import neighbourhood, propagate


def filled_up(planes: torch.Tensor) -> torch.Tensor:
    """Planes [...,H,W] with zeros on the right and below, up to whole cells."""
    height, width = planes.shape[-2:]
    return functional.pad(planes, (0, -width % CELL, 0, -height % CELL))


def pooled(planes: torch.Tensor) -> torch.Tensor:
    """Planes [n,H,W] to their means over cells of 8x8 pixels, float32 [n,ceil(H/8),ceil(W/8)]; outside of them is 0."""
    return functional.avg_pool2d(filled_up(planes.float()), CELL)


def neighbours(affinity: np.ndarray, size: tuple[int, int], radius: int) -> dia_array:
    """The symmetric matrix [h*w,h*w] of affinities [directions,rows,columns] from the anchors of a grid of `size` (h,w).

    Its diagonal is 1; pairs that start elsewhere have no affinity.
    """
    (height, width), (rows, columns) = size, anchors(size, radius)
    planes = {}
    for (dy, dx), values in zip(directions(radius), affinity, strict=True):
        plane = planes[dy, dx] = np.zeros((height - dy, width - abs(dx)), np.float32)
        left = columns.start + min(0, dx)  # a plane begins at the left end of its pairs
        plane[rows, left : left + values.shape[1]] = values
    return neighbourhood(planes, size)


def walk(maps: torch.Tensor, affinity: np.ndarray, radius: int, beta: float, exp_times: int) -> torch.Tensor:
    """Spread maps [n,h,w] for 2^exp_times steps along affinity^beta: [n,h,w]. Affinities are those of `neighbours`."""
    height, width = maps.shape[1:]
    matrix = neighbours(affinity**beta, (height, width), radius)
    return torch.from_numpy(propagate(maps.numpy(), matrix, 2**exp_times))


def walked_labels(walked: torch.Tensor, keys: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Walked maps [1+n,h,w], background first, to a label map uint8 `size`: enlarged eight times, then the largest wins."""
    larger = resize(walked, [CELL * side for side in walked.shape[1:]])[:, : size[0], : size[1]]
    return label_map(larger[1:], keys, larger[0])
