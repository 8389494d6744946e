"""Transforms: the golden vectors of the public IRN code, and what must hold for every image, crop and draw."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesets.item import VOID
from imagesets.transforms import (
    classification_sample,
    crop_windows,
    normalise,
    rescale,
    scaled,
    segmentation_sample,
    top_left_crop,
    views,
)
from maps.grids import rounded_up, strided

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "preproc.npz"))
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
    np.testing.assert_allclose(top_left_crop(normalise(GOLDEN["img"]), 48, 0).transpose(1, 2, 0), GOLDEN["topleft"], atol=1e-5)
    np.testing.assert_array_equal(top_left_crop(GOLDEN["lab"], 48, VOID), GOLDEN["lab_topleft"])


@given(sides, sides, st.integers(1, 60), st.integers(0, 2**32))
def test_a_crop_shows_as_much_of_the_image_as_fits(height, width, crop, seed):
    in_image, in_canvas = crop_windows((height, width), crop, np.random.default_rng(seed))
    for side, source, target in zip((height, width), in_image, in_canvas, strict=True):
        assert source.stop - source.start == target.stop - target.start == min(side, crop)
        assert min(source.start, target.start) >= 0
        assert source.stop <= side and target.stop <= crop


@pytest.mark.parametrize("side", [5, 9])
def test_every_crop_position_is_drawn(side):
    rng = np.random.default_rng(0)
    windows = [crop_windows((side, side), 7, rng) for _ in range(300)]
    drawn = {(in_image[0].start, in_canvas[1].start) for in_image, in_canvas in windows}
    free = range(abs(side - 7) + 1)
    assert drawn == ({(0, column) for column in free} if side < 7 else {(row, 0) for row in free})


@given(sides, sides, st.integers(0, 2**32))
def test_a_classification_sample_is_a_window_of_the_normalised_image_or_its_mirror(height, width, seed):
    rgb = image_of(height, width)
    sample = classification_sample(rgb, [max(height, width)] * 2, 80, np.random.default_rng(seed))
    rows, columns = (np.flatnonzero((sample != 0).any(axis=axes)) for axes in ((0, 2), (0, 1)))
    window = sample[:, rows[0] : rows[0] + height, columns[0] : columns[0] + width]
    whole = normalise(rgb)
    assert sample.shape == (3, 80, 80) and sample.dtype == np.float32
    assert np.array_equal(window, whole) or np.array_equal(window, whole[..., ::-1])
    assert np.count_nonzero(sample) == np.count_nonzero(whole)  # all around it is the mean colour


def test_both_ends_of_the_long_side_are_drawn():
    rng = np.random.default_rng(0)
    white = np.full((10, 20, 3), 255, np.uint8)
    widths = {int((classification_sample(white, [20, 22], 64, rng) != 0).any(axis=(0, 1)).sum()) for _ in range(60)}
    assert widths == {20, 21, 22}


@given(sides, sides, st.floats(0.5, 1.5), st.integers(8, 60), st.integers(0, 2**32))
def test_image_and_label_of_a_segmentation_sample_stay_aligned(height, width, scale, crop, seed):
    label = (np.random.default_rng(1).random((height, width)) < 0.5).astype(np.uint8)
    rgb = np.repeat(label[..., None] * 255, 3, axis=2)
    image, cropped = segmentation_sample(rgb, label, (1.0, 1.0), crop, np.random.default_rng(seed))
    dark, light = normalise(np.array([[[0] * 3, [255] * 3]], np.uint8))[0, 0]
    assert np.all((image[0] == light) == (cropped == 1)) and np.all((image[0] == dark) == (cropped == 0))
    assert np.all((image[0] == 0) == (cropped == VOID))

    image, cropped = segmentation_sample(rgb, label, (scale, scale), crop, np.random.default_rng(seed))
    size = scaled((height, width), scale)
    assert image.shape == (3, crop, crop) and image.dtype == np.float32 and cropped.dtype == np.uint8
    assert set(np.unique(cropped)) <= {0, 1, VOID}  # no interpolation invents a class
    assert np.count_nonzero(cropped != VOID) == min(size[0], crop) * min(size[1], crop)


def test_equal_generators_give_equal_samples():
    rgb, label = image_of(40, 60), np.zeros((40, 60), np.uint8)
    first, second = (segmentation_sample(rgb, label, (0.5, 1.5), 32, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@given(sides, sides)
def test_views_are_the_image_and_its_mirror_at_each_scale(height, width):
    rgb = image_of(height, width)
    found = views(rgb, [1.0, 0.5, 2.0])
    assert [view.shape for view in found] == [(2, 3, *scaled((height, width), scale)) for scale in (1.0, 0.5, 2.0)]
    np.testing.assert_array_equal(found[0][0], normalise(rgb))
    for view in found:
        np.testing.assert_array_equal(view[0], view[1, ..., ::-1])
