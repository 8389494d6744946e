"""Pairs of nearby grid cells and the straight paths between them (IRN: Ahn, Cho & Kwak, CVPR 2019, section 3).

A direction (dy, dx), dy >= 0, stands for all pairs (cell, cell + direction). The affinity of a pair is the smallest 1 -
boundary along its path. A path contains shorter paths, so the minimum along it is the minimum of one or two known minima.
The 152 directions of radius 10 take 325 minima of whole grids; the public code gathers 2,134 planes.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch

Direction = tuple[int, int]
Cell = tuple[int, int]


class Part(NamedTuple):
    """A path inside another one: the path of `direction`, its bounding box moved down and right by `offset` cells."""

    direction: Direction
    offset: Cell


@cache
def directions(radius: int) -> tuple[Direction, ...]:
    """All (dy, dx) shorter than `radius`, one of each pair of opposite directions, shortest paths first (stable)."""
    right = [(0, dx) for dx in range(1, radius)]
    below = [(dy, dx) for dy in range(1, radius) for dx in range(1 - radius, radius) if dy * dy + dx * dx < radius * radius]
    return tuple(sorted(right + below, key=lambda direction: len(path(direction))))


@cache
def path(direction: Direction) -> tuple[Cell, ...]:
    """The cells (y, x), relative to the start, that lie closer than 1 to the line between both ends, in their bounding box.

    From the far end to the start (0, 0), both included, by falling Manhattan distance.
    """
    dy, dx = direction
    box = [(y, x) for y in range(dy + 1) for x in range(min(0, dx), max(0, dx) + 1)]
    near = [(y, x) for y, x in box if (dy * x - dx * y) ** 2 < dy * dy + dx * dx or direction == (0, 0)]
    return tuple(sorted(near, key=lambda cell: -(abs(cell[0]) + abs(cell[1]))))


@cache
def path_parts(radius: int) -> dict[Direction, tuple[Part, ...]]:
    """For every direction, paths of earlier directions (or of (0, 0), one cell) that together are exactly its path."""
    known: list[Direction] = [(0, 0)]
    parts = {}
    for direction in directions(radius):
        parts[direction] = _cover(direction, known)
        known.append(direction)
    return parts


def _boxed(direction: Direction, offset: Cell = (0, 0)) -> set[Cell]:
    """The path's cells counted from the top left of its bounding box, moved by `offset`."""
    left = min(0, direction[1])
    return {(y + offset[0], x - left + offset[1]) for y, x in path(direction)}


def _cover(direction: Direction, known: list[Direction]) -> tuple[Part, ...]:
    """A few `known` paths whose union is the path of `direction`: each adds the most cells, until none is missing."""
    cells = _boxed(direction)
    inside = {part: _boxed(*part) for shorter in known for part in _placements(shorter, direction)}
    inside = {part: covered for part, covered in inside.items() if covered <= cells}
    missing, chosen = set(cells), []
    while missing:
        best = max(inside, key=lambda part: len(inside[part] & missing))
        chosen.append(best)
        missing -= inside[best]
    return tuple(chosen)


def _placements(shorter: Direction, longer: Direction) -> Iterator[Part]:
    for y in range(longer[0] - shorter[0] + 1):
        for x in range(abs(longer[1]) - abs(shorter[1]) + 1):
            yield Part(shorter, (y, x))


def path_minima(grid: torch.Tensor, radius: int) -> dict[Direction, torch.Tensor]:
    """For every direction the minimum of `grid` [...,H,W] along the path of every pair inside the grid: [...,H-dy,W-|dx|].

    Element (y, x) is the pair whose bounding box has its top left there. Differentiable; a tie shares its gradient.
    """
    height, width = grid.shape[-2:]
    minima = {(0, 0): grid}
    for direction, parts in path_parts(radius).items():
        rows, columns = height - direction[0], width - abs(direction[1])
        if rows <= 0 or columns <= 0:
            minima[direction] = grid[..., : max(rows, 0), : max(columns, 0)]
            continue
        slices = [minima[part][..., y : y + rows, x : x + columns] for part, (y, x) in parts]
        least = slices[0]
        for other in slices[1:]:
            least = torch.minimum(least, other)
        minima[direction] = least
    del minima[0, 0]
    return minima


def anchored_minima(grid: torch.Tensor, radius: int) -> torch.Tensor:
    """`path_minima` of the pairs that training uses: [...,directions,rows,columns] over the anchor cells."""
    rows, columns = anchor_region(grid.shape[-2:], radius)
    planes = []
    for (_, dx), least in path_minima(grid, radius).items():
        left = min(0, dx)
        planes.append(least[..., rows, columns.start + left : columns.stop + left])
    return torch.stack(planes, dim=-3)


def anchor_region(size: tuple[int, ...], radius: int) -> tuple[slice, slice]:
    """Rows and columns of the cells from which every direction stays inside a grid of `size` (height, width)."""
    reach = radius - 1
    return slice(0, max(size[0] - reach, 0)), slice(reach, max(size[1] - reach, reach))


def anchors(grid: torch.Tensor, radius: int) -> torch.Tensor:
    """`grid` [...,H,W] at the anchor cells: [...,1,rows,columns]."""
    rows, columns = anchor_region(grid.shape[-2:], radius)
    return grid[..., None, rows, columns]


def partners(grid: torch.Tensor, radius: int) -> torch.Tensor:
    """`grid` [...,H,W] at each anchor cell's partner in every direction: [...,directions,rows,columns]."""
    rows, columns = anchor_region(grid.shape[-2:], radius)
    moved = [grid[..., rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx] for dy, dx in directions(radius)]
    return torch.stack(moved, dim=-3)
