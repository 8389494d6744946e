"""Pairs of cells and their paths."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refiners import pair_geometry as geometry

GOLDEN = np.load(Path(__file__).parent / "golden" / "irn_paths.npz")
RADII = (5, 10)


def cells_of(size: tuple[int, int]) -> torch.Tensor:
    return torch.arange(size[0] * size[1]).reshape(size)


@pytest.mark.parametrize("radius", RADII)
def test_directions_paths_and_their_order_are_the_golden_ones(radius):
    assert list(geometry.directions(radius)) == [tuple(row) for row in GOLDEN[f"r{radius}_dst"].tolist()]
    paths = [cell for direction in geometry.directions(radius) for cell in geometry.path(direction)]
    assert paths == [tuple(row) for row in GOLDEN[f"r{radius}_path_cells"].tolist()]
    lengths = [len(geometry.path(direction)) for direction in geometry.directions(radius)]
    assert np.array_equal(np.cumsum([0, *lengths]), GOLDEN[f"r{radius}_path_offsets"])
    values, counts = np.unique(lengths, return_counts=True)
    assert np.array_equal(values, GOLDEN[f"r{radius}_group_lengths"]) and np.array_equal(
        counts, GOLDEN[f"r{radius}_group_counts"]
    )


@pytest.mark.parametrize("radius", RADII)
def test_anchors_and_partners_are_the_golden_cells(radius):
    cells = cells_of(tuple(GOLDEN[f"r{radius}_size"].tolist()))
    rows, columns = geometry.anchors(cells.shape, radius)
    assert np.array_equal(cells[rows, columns].flatten(), GOLDEN[f"r{radius}_src_indices"])
    assert np.array_equal(geometry.partners(cells, radius)[:, rows, columns].flatten(1), GOLDEN[f"r{radius}_dst_indices"])


def test_the_cells_of_the_training_grid_add_up_to_the_golden_sums():
    cells = cells_of((128, 128))
    rows, columns = geometry.anchors(cells.shape, 10)
    assert int(cells[rows, columns].sum()) == int(GOLDEN["r10_128_src_sum"])
    assert int(geometry.partners(cells, 10)[:, rows, columns].sum()) == int(GOLDEN["r10_128_dst_sum"])


@pytest.mark.parametrize("radius", [2, 3, 5, 10])
def test_every_path_is_exactly_the_union_of_its_parts_of_earlier_rounds_and_most_need_two(radius):
    known, parts_in_all = {(0, 0)}, 0
    for parts in geometry.path_parts(radius):
        for direction, chosen in parts.items():
            assert set.union(*(set(geometry.cells(part)) for part in chosen)) == set(geometry.path(direction))
            assert {part.direction for part in chosen} <= known
        known |= set(parts)
        parts_in_all += sum(map(len, parts.values()))
    assert known == {(0, 0), *geometry.directions(radius)} and parts_in_all <= 2.5 * len(known)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.integers(2, 6))
def test_path_minima_are_minima_along_paths_in_any_grid(seed, height, width, radius):
    grid = torch.rand((height, width), generator=torch.Generator().manual_seed(seed))
    found = geometry.path_minima(grid, radius)
    assert tuple(found) == geometry.directions(radius)
    for (dy, dx), least in found.items():
        assert least.shape == (max(height - dy, 0), max(width - abs(dx), 0))
        for y, x in np.ndindex(*least.shape):
            start = (y, x - min(0, dx))
            assert least[y, x] == min(grid[start[0] + along[0], start[1] + along[1]] for along in geometry.path((dy, dx)))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.integers(2, 6))
def test_sums_at_partners_are_over_the_pairs_that_end_there_in_any_grid(seed, images, height, width, radius):
    draw = torch.Generator().manual_seed(seed)
    planes = torch.zeros(len(geometry.directions(radius)), images, height, width)
    rows, columns = geometry.anchors((height, width), radius)
    planes[..., rows, columns] = torch.rand(planes[..., rows, columns].shape, generator=draw)
    expected = torch.zeros(images, height, width)
    for (dy, dx), plane in zip(geometry.directions(radius), planes, strict=True):
        for y, x in np.ndindex(height, width):
            if y in range(rows.start, rows.stop) and x in range(columns.start, columns.stop):
                expected[:, y + dy, x + dx] += plane[:, y, x]
    torch.testing.assert_close(geometry.summed_at_partners(planes, radius), expected)


def test_affinities_are_the_golden_ones():
    golden = np.load(Path(__file__).parent / "golden" / "irn_affinity.npz")
    affinity = 1 - torch.from_numpy(golden["edge"][:, 0])
    rows, columns = geometry.anchors(affinity.shape[1:], 5)
    found = geometry.minima(affinity, 5)[..., rows, columns].transpose(0, 1)
    np.testing.assert_allclose(found.flatten(2), golden["aff"], atol=1e-6)


def test_a_grid_too_small_for_the_radius_has_no_anchors():
    rows, columns = geometry.anchors((9, 18), 10)
    assert cells_of((9, 18))[rows, columns].numel() == 0
