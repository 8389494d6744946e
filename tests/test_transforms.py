"""Transforms: the golden vectors of the public IRN code, and what must hold for every image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagesets.item import VOID, Item
from imagesets.normalising import normalised
from imagesets.transforms import normalise, rescale, scaled, top_left_crop
from imagesets.views import load, mirror_sum, pairs
from maps.grids import rounded_up, strided

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "preproc.npz"))
CPU = torch.device("cpu")
sides = st.integers(1, 70)


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_normalisation_is_that_of_the_public_code():
    np.testing.assert_allclose(normalise(GOLDEN["img"]).transpose(1, 2, 0), GOLDEN["norm"], atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_images_are_rescaled_bicubically_with_antialiasing(scale):
    difference = rescale(GOLDEN["img"], scale).astype(int) - GOLDEN[f"bicubic_{scale}"]
    assert np.abs(difference).max() <= 1  # other Pillow versions may round differently


@pytest.mark.parametrize("scale", [0.25, 1.37])
def test_labels_are_rescaled_to_the_nearest(scale):
    np.testing.assert_array_equal(rescale(GOLDEN["lab"], scale, bicubic=False), GOLDEN[f"nearest_{scale}"])


def test_sizes_are_rounded_half_to_even_and_never_vanish():
    for size, expected in zip(GOLDEN["sizes"], GOLDEN["rescaled"], strict=True):
        assert [scaled(tuple(size), scale) for scale in (0.5, 1.5, 2)] == [tuple(both) for both in np.maximum(expected, 1)]


def test_grids_round_up():
    for size, quarter, sixteenth in zip(GOLDEN["sizes"], GOLDEN["stride4"], GOLDEN["up16"], strict=True):
        assert strided(tuple(size)) == tuple(quarter)
        assert rounded_up(tuple(size)) == tuple(sixteenth)


def test_the_top_left_crop_fills_up_to_the_right_and_below():
    side = len(GOLDEN["topleft"])
    np.testing.assert_allclose(top_left_crop(normalise(GOLDEN["img"]), side, 0).transpose(1, 2, 0), GOLDEN["topleft"], atol=1e-5)
    np.testing.assert_array_equal(top_left_crop(GOLDEN["lab"], side, VOID), GOLDEN["lab_topleft"])


@given(sides, sides)
def test_the_device_normalises_to_the_same_bits(height, width):
    rgb = image_of(height, width)
    both = torch.from_numpy(np.stack([rgb, rgb[:, ::-1]]))
    np.testing.assert_array_equal(normalised(both), np.stack([normalise(rgb), normalise(rgb)[..., ::-1]]))


@pytest.mark.parametrize("size", [(375, 500), (7, 5), (1, 1)])
def test_pairs_are_the_images_of_a_batch_and_their_mirrors_at_each_scale(tmp_path, size):
    for number in range(3):
        Image.fromarray(image_of(*size, seed=number)).save(tmp_path / f"{number}.png")
    batch = [load(Item(str(number), tmp_path / f"{number}.png", (number,)), [1.0, 0.5, 2.0], CPU) for number in range(3)]
    assert [loaded.labels.tolist() for loaded in batch] == [[0], [1], [2]] and len({loaded.sizes for loaded in batch}) == 1
    for scale, found in zip([1.0, 0.5, 2.0], pairs(batch, CPU), strict=True):
        assert found.shape == (3, 2, 3, *scaled(size, scale))
        for loaded, pair in zip(batch, found, strict=True):
            np.testing.assert_array_equal(pair[0], normalise(rescale(loaded.rgb, scale)))
            np.testing.assert_array_equal(pair[0], pair[1].flip(-1))


def test_the_sum_with_the_mirror_turns_the_mirror_back():
    both = torch.stack([torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 20.0, 30.0]])])
    assert mirror_sum(both).tolist() == [[31, 22, 13]]
    assert torch.equal(mirror_sum(both[None].expand(4, -1, -1, -1), dim=1), mirror_sum(both).expand(4, -1, -1))


def test_without_scales_there_is_nothing_to_compute(tmp_path):
    Image.fromarray(image_of(4, 6)).save(tmp_path / "a.png")
    loaded = load(Item("a", tmp_path / "a.png", ()), [], CPU)
    assert loaded.rgb.shape == (4, 6, 3) and not loaded.sizes and not list(pairs([loaded], CPU))
