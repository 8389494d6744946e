"""Pairs of nearby grid cells and the straight paths between them (IRN: Ahn, Cho & Kwak, CVPR 2019, section 3).

A direction (dy, dx), dy >= 0, stands for all pairs (cell, cell + direction). The affinity of a pair is the smallest 1 -
boundary along its path. A path contains shorter paths, so the minimum along it is the minimum of two or three known minima.
The 152 directions of radius 10 take 367 copies of whole grids in five rounds; the public code gathers 2,134 planes.

Here a plane is a whole grid of values, one for each cell as the start of a pair in one direction. Planes lie one after the
other in memory, so a plane that is moved by (y, x) is a run of memory that starts y * width + x values later, and one
`index_select` copies any number of moved planes. At pairs that leave the grid a plane holds values without a meaning.
"""

from functools import cache, lru_cache
from itertools import cycle, groupby, islice
from typing import NamedTuple

import torch
from torch.nn import functional

Direction = tuple[int, int]
Cell = tuple[int, int]


class Part(NamedTuple):
    """A path inside another one: the path of `direction` from the cell `start` of the other."""

    direction: Direction
    start: Cell


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


def cells(part: Part) -> frozenset[Cell]:
    """The cells of a part, relative to the start of the path that it lies in."""
    return frozenset((y + part.start[0], x + part.start[1]) for y, x in path(part.direction))


@cache
def path_parts(radius: int) -> tuple[dict[Direction, tuple[Part, ...]], ...]:
    """The directions in rounds; for each, paths of earlier rounds (or of (0, 0), one cell) that together are exactly its path.

    The rounds have paths of up to 2, 4, 8, ... cells.
    """
    known: list[Direction] = [(0, 0)]
    rounds = []
    for _, group in groupby(directions(radius), key=lambda direction: (len(path(direction)) - 1).bit_length()):
        rounds.append({direction: _cover(direction, known) for direction in group})
        known.extend(rounds[-1])
    return tuple(rounds)


def _cover(direction: Direction, known: list[Direction]) -> tuple[Part, ...]:
    """A few `known` paths whose union is the path of `direction`: each adds the most cells, until none is missing."""
    whole = set(path(direction))
    inside = {part: cells(part) for shorter in known for part in (Part(shorter, start) for start in path(direction))}
    inside = {part: covered for part, covered in inside.items() if covered <= whole}
    missing, chosen = set(whole), []
    while missing:
        best = max(inside, key=lambda part: len(inside[part] & missing))
        chosen.append(best)
        missing -= inside[best]
    return tuple(chosen)


def minima(grid: torch.Tensor, radius: int) -> torch.Tensor:
    """The minimum of `grid` [...,H,W] along the path of every pair, as planes [directions,...,H,W]. Without a gradient."""
    size, reach = grid.numel(), radius - 1
    count = 1 + len(directions(radius))
    # zeros around the planes: a moved plane may begin before the first one and end after the last one
    memory = grid.new_zeros(reach + count * size + _later((reach, reach), grid.shape[-1]))
    planes = memory[reach : reach + count * size].view(count, size)
    planes[0], known = grid.detach().flatten(), 1
    for first, *others in _part_starts(radius, grid.shape[-1], size, grid.device):
        least = _runs(memory, first, size)
        for other in others:
            torch.minimum(least, _runs(memory, other, size), out=least)
        planes[known : known + len(least)] = least
        known += len(least)
    return planes[1:].view(-1, *grid.shape)


def path_minima(grid: torch.Tensor, radius: int) -> dict[Direction, torch.Tensor]:
    """By direction the minimum of `grid` [...,H,W] along the path of every pair inside the grid: [...,H-dy,W-|dx|].

    Element (y, x) is the pair whose bounding box has its top left there.
    """
    height, width = grid.shape[-2:]
    return {
        (dy, dx): plane[..., : max(height - dy, 0), max(0, -dx) : max(width - max(0, dx), 0)]
        for (dy, dx), plane in zip(directions(radius), minima(grid, radius), strict=True)
    }


def anchors(size: tuple[int, ...], radius: int) -> tuple[slice, slice]:
    """Rows and columns of the cells from which every direction stays inside a grid of `size` (height, width)."""
    reach = radius - 1
    return slice(0, max(size[0] - reach, 0)), slice(reach, max(size[1] - reach, reach))


def partners(grid: torch.Tensor, radius: int) -> torch.Tensor:
    """`grid` [...,H,W] at the far end of every pair, as planes [directions,...,H,W]."""
    reach, width = radius - 1, grid.shape[-1]
    padded = functional.pad(grid.flatten(), (reach, _later((reach, reach), width)))
    return _runs(padded, _partner_starts(radius, width, grid.device), grid.numel()).view(-1, *grid.shape)


def summed_at_partners(planes: torch.Tensor, radius: int) -> torch.Tensor:
    """For every cell the sum of `planes` [directions,...,H,W] over the pairs that end there: [...,H,W].

    The planes are 0 at all pairs that start outside the anchors.
    """
    size, reach, width = planes[0].numel(), radius - 1, planes.shape[-1]
    before = _later((reach, reach), width)
    moves = _partner_starts(radius, width, planes.device) - reach
    starts = before + size * torch.arange(len(planes), device=planes.device) - moves
    return _runs(functional.pad(planes.flatten(), (before, 0)), starts, size).sum(dim=0).view(planes.shape[1:])


def _later(cell: Cell, width: int) -> int:
    """How many values behind the start of a plane its cell (y, x) lies, in a grid of `width` columns."""
    return cell[0] * width + cell[1]


def _runs(memory: torch.Tensor, starts: torch.Tensor, length: int) -> torch.Tensor:
    """The `length` values of flat `memory` from each of `starts`: [starts,length]."""
    return memory.as_strided((len(memory) - length + 1, length), (1, 1)).index_select(0, starts)


# The two tables stay on the device (4 kB for a size): a copy to a GPU would make every step wait for it.


@lru_cache(maxsize=32)
def _partner_starts(radius: int, width: int, device: torch.device) -> torch.Tensor:
    """Where each direction's run starts in a grid with `radius` - 1 values before it."""
    return torch.tensor([radius - 1 + _later(direction, width) for direction in directions(radius)], device=device)


@lru_cache(maxsize=32)  # the walk comes with images of many sizes
def _part_starts(radius: int, width: int, size: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """For each round of `path_parts`, where the runs start: [parts,directions]. Directions with fewer parts repeat theirs."""
    number = {direction: place for place, direction in enumerate([(0, 0), *directions(radius)])}
    tables = []
    for parts in path_parts(radius):
        most = max(map(len, parts.values()))
        starts = [
            [radius - 1 + number[direction] * size + _later(start, width) for direction, start in islice(cycle(few), most)]
            for few in parts.values()
        ]
        tables.append(torch.tensor(starts, device=device).T.contiguous())
    return tuple(tables)
