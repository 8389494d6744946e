"""The random walk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refiners import irn
from refiners.pair_geometry import anchors, directions, path, path_minima
from refiners.random_walk import neighbourhood, power_coefficients, propagate, walk

FOLDER = Path(__file__).parent / "golden"
GOLDEN = np.load(FOLDER / "irn_propagate.npz")
sizes = st.integers(1, 11), st.integers(1, 11)  # narrow grids, too, where two directions lie on one diagonal


def example(seed: int, height: int, width: int, n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, height, width), generator=generator), torch.rand((height, width), generator=generator) ** 3


def dense_affinity(boundary: torch.Tensor, radius: int) -> torch.Tensor:
    """Straight from the definition, pair by pair."""
    height, width = boundary.shape
    matrix = torch.eye(height * width, dtype=torch.float64)
    for dy, dx in directions(radius):
        for y, x in np.ndindex(height, width):
            if y + dy < height and 0 <= x + dx < width:
                affinity = 1 - max(boundary[y + up, x + along].item() for up, along in path((dy, dx)))
                here, there = y * width + x, (y + dy) * width + x + dx
                matrix[here, there] = matrix[there, here] = affinity
    return matrix


def dense_walk(maps: torch.Tensor, boundary: torch.Tensor, radius: int, beta: float, exp_times: int) -> torch.Tensor:
    """The published form: column-normalise the dense matrix, square it, multiply rows by it."""
    matrix = dense_affinity(boundary, radius) ** beta
    matrix = torch.linalg.matrix_power(matrix / matrix.sum(dim=0, keepdim=True), 2**exp_times)
    return ((maps * (1 - boundary)).flatten(1).double() @ matrix).reshape(maps.shape)


def sparse(boundary: torch.Tensor):
    return neighbourhood({way: least.numpy() for way, least in path_minima((1 - boundary) ** 10, 5).items()}, boundary.shape)


@pytest.mark.parametrize("case", "abc")
def test_walked_maps_are_the_golden_ones(case):
    beta, exp_times = GOLDEN[f"{case}_beta_times"].tolist()
    found = walk(torch.from_numpy(GOLDEN[f"{case}_cam"]), torch.from_numpy(GOLDEN[f"{case}_edge"][0]), 5, beta, exp_times)
    np.testing.assert_allclose(found, GOLDEN[f"{case}_rw"][:, 0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("radius", "beta", "exp_times"), [(5, 10, 8), (5, 10, 1), (3, 4, 2)])
def test_other_radii_powers_and_steps_are_golden_too(radius, beta, exp_times):
    golden = np.load(FOLDER / "random_walk_irn.npz")
    found = walk(torch.from_numpy(golden["cam"]), torch.from_numpy(golden["edge"][0]), radius, beta, exp_times)
    np.testing.assert_allclose(found, golden[f"rw_r{radius}_b{beta}_t{exp_times}"], atol=5e-5)


def test_neighbours_paths_and_affinities_of_irn_s_code_are_the_golden_ones():
    golden = np.load(FOLDER / "random_walk_irn.npz")
    shape = golden["edge"].shape[1:]
    for radius in (3, 5):
        assert set(directions(radius)) == {tuple(way) for way in golden[f"search_dst_r{radius}"].tolist()}
    planes, (rows, columns) = path_minima(1 - torch.from_numpy(golden["edge"][0]), 3), anchors(shape, 3)
    numbers = np.arange(shape[0] * shape[1]).reshape(shape)
    assert np.array_equal(numbers[rows, columns].ravel(), golden["src_r3"])
    for (dy, dx), affinity, there in zip(golden["search_dst_r3"].tolist(), golden["aff_r3"], golden["dst_r3"], strict=True):
        own = planes[dy, dx][rows, columns.start + min(0, dx) : columns.stop + min(0, dx)]
        np.testing.assert_allclose(own.flatten(), affinity, atol=1e-7)
        assert np.array_equal(golden["src_r3"] + dy * shape[1] + dx, there)


def test_the_label_map_of_irn_s_code_is_the_golden_one():
    golden = np.load(FOLDER / "random_walk_irn.npz")
    walked = walk(torch.from_numpy(golden["cam"]), torch.from_numpy(golden["edge"][0]))
    found = irn.walked_labels(walked, np.arange(2), golden["pred_bg0p25"].shape, 0.25)
    assert (found != golden["pred_bg0p25"]).mean() <= 0.005


def test_affinities_and_walk_of_the_hfpl_family_s_copy_are_the_golden_ones():
    golden = np.load(FOLDER / "irn.npz")
    maps, boundary, radius = torch.from_numpy(golden["cams"]), torch.from_numpy(golden["edge"]), int(golden["radius"])
    planes, (rows, columns) = path_minima(1 - boundary, radius), anchors(boundary.shape, radius)
    for (dy, dx), expected in zip(golden["search_dst"].tolist(), golden["affinity"], strict=True):
        own = planes[dy, dx][rows, columns.start + min(0, dx) : columns.stop + min(0, dx)]
        np.testing.assert_allclose(own.flatten(), expected, rtol=1e-5, atol=1e-7)
    found = walk(maps, boundary, radius, float(golden["beta"]), int(golden["exp_times"]))
    np.testing.assert_allclose(found, golden["rw"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("case", "ac")
def test_the_neighbourhood_is_the_golden_affinity(case):
    boundary = torch.from_numpy(GOLDEN[f"{case}_edge"][0])
    found = neighbourhood({way: least.numpy() for way, least in path_minima(1 - boundary, 5).items()}, boundary.shape).toarray()
    np.testing.assert_allclose(found, GOLDEN[f"{case}_affinity"], atol=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10_000), *sizes, st.integers(2, 5), st.sampled_from([0.5, 1.0, 10.0]), st.integers(0, 8))
def test_it_is_the_power_of_the_dense_matrix_on_any_grid(seed, height, width, radius, beta, exp_times):
    maps, boundary = example(seed, height, width)
    found = walk(maps, boundary, radius, beta, exp_times)
    np.testing.assert_allclose(found, dense_walk(maps, boundary, radius, beta, exp_times), atol=3e-5)


@given(st.integers(0, 10_000))
def test_zero_steps_are_the_identity(seed):
    maps, boundary = example(seed, 6, 9)
    assert np.array_equal(propagate(maps.numpy(), sparse(boundary), 0), maps)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 300), st.floats(0.1, 10))
def test_steps_keep_a_constant_map_whatever_the_boundary(seed, steps, level):
    _, boundary = example(seed, 10, 13)
    maps = np.full((1, 10, 13), level, np.float32)
    np.testing.assert_allclose(propagate(maps, sparse(boundary), steps), maps, rtol=1e-4)


def test_a_walk_keeps_a_constant_map_only_where_there_is_no_boundary():
    maps = torch.full((1, 10, 13), 0.7)
    np.testing.assert_allclose(walk(maps, torch.zeros(10, 13)), maps, rtol=1e-4)
    np.testing.assert_allclose(
        walk(maps, torch.full((10, 13), 0.25)), 0.75 * maps, rtol=1e-4
    )  # it starts from maps * (1 - boundary)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 9))
def test_no_maximum_grows_and_no_minimum_falls_in_any_number_of_steps(seed, exp_times):
    maps, boundary = example(seed, 10, 13)
    found = propagate(maps.numpy(), sparse(boundary), 2**exp_times)
    assert (found.max(axis=(1, 2)) <= maps.amax(dim=(1, 2)).numpy() + 1e-4).all()
    assert (found.min(axis=(1, 2)) >= maps.amin(dim=(1, 2)).numpy() - 1e-4).all()


def test_a_closed_boundary_is_not_crossed():
    maps, boundary = torch.zeros(1, 12, 21), torch.zeros(12, 21)
    maps[0, :, :10], boundary[:, 10] = 1, 1
    found = walk(maps, boundary)
    np.testing.assert_allclose(found[0, :, :10], 1, atol=5e-5)
    np.testing.assert_allclose(found[0, :, 11:], 0, atol=5e-5)


def test_no_map_gives_no_map():
    assert walk(torch.zeros(0, 6, 9), torch.zeros(6, 9)).shape == (0, 6, 9)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 64, 256, 1024])
def test_the_chebyshev_series_is_the_power_on_the_whole_interval(steps):
    at = np.cos(np.linspace(0, np.pi, 501))
    np.testing.assert_allclose(np.polynomial.chebyshev.chebval(at, power_coefficients(steps)), at**steps, atol=2e-6)


def test_256_steps_take_80_products():
    assert len(power_coefficients(256)) - 1 == 80


@pytest.mark.parametrize("background", [0.25, 0.28, 0.35])
def test_final_labels_are_the_golden_ones(background):
    golden = np.load(FOLDER / "irn_sem_seg.npz")
    walked = walk(torch.from_numpy(golden["cam"]), torch.from_numpy(golden["edge"][0]))
    found = irn.walked_labels(walked, golden["keys"], tuple(golden["size"].tolist()), background)
    assert (found != golden[f"label_{background}"]).mean() <= 0.005


def test_final_labels_of_amn_s_powered_maps_are_the_golden_ones():
    golden = np.load(FOLDER / "amn_sem_seg.npz")
    walked = walk(torch.from_numpy(golden["cam"][1:]) ** 1.3, torch.from_numpy(golden["edge"][0]))  # channel 0 is background
    found = irn.walked_labels(walked, golden["keys"], tuple(golden["size"].tolist()), 0.25)
    assert (found != golden["label"]).mean() <= 0.005


def test_maps_that_are_zero_everywhere_give_background():
    assert irn.walked_labels(torch.zeros(2, 3, 4), np.array([0, 1]), (11, 14), 0.25).max() == 0


def test_a_class_must_exceed_a_background_map_that_walked_too():
    walked = torch.rand((3, 3, 4), generator=torch.Generator().manual_seed(0))
    larger = torch.nn.functional.interpolate(walked[None], scale_factor=4, mode="bilinear")[0, :, :11, :14]
    found = irn.walked_labels(walked, np.array([4, 7]), (11, 14), None)
    assert np.array_equal(found, np.array([0, 5, 8])[larger.argmax(dim=0)])
