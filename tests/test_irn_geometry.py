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
    found = geometry.partners(cells, radius).flatten(1)
    assert np.array_equal(geometry.anchors(cells, radius).flatten(), GOLDEN[f"r{radius}_src_indices"])
    assert np.array_equal(found, GOLDEN[f"r{radius}_dst_indices"])


def test_the_cells_of_the_training_grid_add_up_to_the_golden_sums():
    cells = cells_of((128, 128))
    assert int(geometry.anchors(cells, 10).sum()) == int(GOLDEN["r10_128_src_sum"])
    assert int(geometry.partners(cells, 10).sum()) == int(GOLDEN["r10_128_dst_sum"])


@pytest.mark.parametrize("radius", [2, 3, 5, 10])
def test_every_path_is_exactly_the_union_of_its_parts_and_most_need_two(radius):
    parts = geometry.path_parts(radius)
    for direction, chosen in parts.items():
        assert set.union(*(geometry._boxed(*part) for part in chosen)) == geometry._boxed(direction)
    assert sum(map(len, parts.values())) <= 2.2 * len(parts)


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


def test_affinities_are_the_golden_ones():
    golden = np.load(Path(__file__).parent / "golden" / "irn_affinity.npz")
    found = geometry.anchored_minima(1 - torch.from_numpy(golden["edge"][:, 0]), 5)
    np.testing.assert_allclose(found.flatten(2), golden["aff"], atol=1e-6)


def test_the_affinity_of_a_zero_boundary_is_one():
    assert (geometry.anchored_minima(1 - torch.zeros(1, 12, 18), 5) == 1).all()


def test_the_gradient_of_an_affinity_reaches_its_highest_boundary_alone():
    boundary = torch.rand((12, 18), generator=torch.Generator().manual_seed(0)).requires_grad_()
    direction, start = (3, -2), (2, 7)
    affinity = geometry.path_minima(1 - boundary, 5)[direction][start[0], start[1] + direction[1]]
    affinity.backward()
    path = [(start[0] + y, start[1] + x) for y, x in geometry.path(direction)]
    highest = max(path, key=lambda cell: boundary[cell].item())
    assert boundary.grad[highest] == -1 and boundary.grad.count_nonzero() == 1


def test_a_grid_too_small_for_the_radius_has_no_anchors():
    assert geometry.anchors(cells_of((9, 18)), 10).numel() == 0
