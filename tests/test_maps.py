"""Maps: the golden vectors of the public IRN code, and the round trip through the store's arrays."""

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maps.maps import Maps, normalise, strided, sum_scales

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "cam_multiscale.npz"))


def golden_maps() -> Maps:
    keys = GOLDEN["keys"]
    height, width = GOLDEN["size"]
    return Maps(keys, (int(height), int(width)), tuple(GOLDEN[f"map{index}"][keys] for index in range(4)))


def random_maps(classes: int, size: tuple[int, int], seed: int, linear: bool = True) -> Maps:
    rng = np.random.default_rng(seed)
    shapes = [(3, 4), (2, 2), (5, 6)] if linear else [strided(size), size]
    grids = tuple(rng.random((classes, *shape), np.float32) * 10.0 ** rng.integers(-9, 9) for shape in shapes)
    return Maps(np.arange(classes) * 2, size, grids, linear)


def test_summed_scales_are_the_maps_of_the_public_code():
    np.testing.assert_allclose(golden_maps().strided(), GOLDEN["cam"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(golden_maps().full(), GOLDEN["high_res"], rtol=1e-4, atol=1e-5)


def test_a_class_without_response_keeps_an_all_zero_map():
    dead = [torch.from_numpy(GOLDEN[f"map{index}"][14:15]) for index in range(4)]
    assert not normalise(sum_scales(dead, (94, 70), full=True)).any()


def test_maps_of_an_image_without_classes_are_empty():
    maps = Maps.of(random_maps(0, (9, 14), 0).arrays())
    assert maps.strided().shape == (0, 3, 4) and maps.full().shape == (0, 9, 14)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40), st.integers(0, 999))
def test_stored_linear_maps_come_back_up_to_half_precision_at_any_magnitude(classes, height, width, seed):
    maps = random_maps(classes, (height, width), seed)
    back = Maps.of(maps.arrays())
    assert back.keys.tolist() == maps.keys.tolist() and back.size == maps.size and back.linear
    whole = normalise(
        sum_scales([torch.from_numpy(grid.astype(np.float32)) for grid in maps.grids], maps.size, True), epsilon=1e-20
    )
    np.testing.assert_allclose(back.full(), whole, atol=2e-3)


def test_finished_maps_come_back_as_they_are():
    maps = Maps(np.array([1]), (8, 8), (np.full((1, 2, 2), 0.25, np.float16), np.full((1, 8, 8), 0.5, np.float16)), linear=False)
    back = Maps.of(maps.arrays())
    assert not back.linear
    np.testing.assert_array_equal(back.strided(), maps.grids[0])
    np.testing.assert_array_equal(back.full(), maps.grids[1])


@given(st.integers(0, 999))
def test_a_normalised_map_does_not_depend_on_the_scale_of_its_response(seed):
    grid = torch.from_numpy(np.random.default_rng(seed).random((2, 5, 5), np.float32))
    np.testing.assert_allclose(normalise(grid, 0.0), normalise(grid * 8, 0.0), rtol=1e-6)
