"""Training crops: the draws of the public IRN code, and what must hold for every image, crop and draw."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagesets.crops import Crop, by_factor, by_long_side, by_scale
from imagesets.item import VOID
from imagesets.rescaling import OneOf
from imagesets.transforms import MEAN, STANDARD_DEVIATION, normalise, rescale, scaled
from training.transfer import to_device

sides = st.integers(1, 70)


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def drawn(height: int, width: int, side: int, seed: int, scale: float = 1.0) -> Crop:
    rng = np.random.default_rng(seed)
    return Crop.drawn(by_scale((height, width), (scale, scale), rng), side, rng)


# what version 0.1 drew: the rule, the image, its new size, rows and columns seen, where they lie in a canvas of 256, the mirror
DRAWS = [
    (by_long_side, [320, 640], (375, 500), (445, 593), (121, 377, 172, 428), (0, 256, 0, 256), True),
    (by_long_side, [320, 640], (60, 40), (471, 314), (110, 366, 44, 300), (0, 256, 0, 256), True),
    (by_long_side, [320, 640], (33, 90), (216, 588), (0, 216, 36, 292), (10, 226, 0, 256), False),
    (by_scale, [0.5, 1.5], (375, 500), (426, 568), (87, 343, 84, 340), (0, 256, 0, 256), True),
    (by_scale, [0.5, 1.5], (60, 40), (61, 40), (0, 61, 0, 40), (148, 209, 206, 246), True),
    (by_scale, [0.5, 1.5], (33, 90), (25, 69), (0, 25, 0, 69), (25, 50, 56, 125), False),
]


@pytest.mark.parametrize(("case", "seed"), zip(DRAWS, [0, 1, 2] * 2, strict=True))
def test_draws_are_what_they_were(case, seed):
    rule, bounds, image, *expected = case
    rng = np.random.default_rng(seed)
    crop = Crop.drawn(rule(image, bounds, rng), 256, rng)
    edges = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in (crop.inside, crop.within)]
    assert [crop.size, *edges, crop.mirror] == expected


@given(sides, sides, st.integers(1, 60), st.integers(0, 2**32))
def test_a_crop_shows_as_much_of_the_image_as_fits(height, width, side, seed):
    crop = drawn(height, width, side, seed)
    for extent, source, target in zip((height, width), crop.inside, crop.within, strict=True):
        assert source.stop - source.start == target.stop - target.start == min(extent, side)
        assert min(source.start, target.start) >= 0
        assert source.stop <= extent and target.stop <= side


@pytest.mark.parametrize("extent", [5, 9])
def test_every_crop_position_is_drawn_mirrored_and_not(extent):
    crops = [drawn(extent, extent, 7, seed) for seed in range(400)]
    found = {(crop.inside[0].start, crop.within[1].start, crop.mirror) for crop in crops}
    free = [(place, mirror) for place in range(abs(extent - 7) + 1) for mirror in (True, False)]
    assert found == {(0, place, mirror) if extent < 7 else (place, 0, mirror) for place, mirror in free}


def on_device(crop: Crop, rgb: np.ndarray) -> np.ndarray:
    """The crop of an image as it reaches a network."""
    sample = crop.image(rgb)
    assert sample.shape == (4, crop.side, crop.side) and sample.dtype == np.uint8
    return to_device({"image": torch.from_numpy(sample)[None]}, torch.device("cpu"))["image"].numpy()[0]


@given(sides, sides, st.floats(0.5, 1.5), st.integers(8, 60), st.integers(0, 2**32))
def test_a_crop_that_is_normalised_on_the_device_has_the_bits_of_one_that_was_normalised_before(height, width, scale, side, seed):
    rgb, crop = image_of(height, width), drawn(height, width, side, seed, scale)
    before = crop.normalised(crop.seen(rescale(rgb, crop.size)))
    np.testing.assert_array_equal(on_device(crop, rgb).view(np.int32), before.view(np.int32))  # 0 and -0 differ
    batch = {"image": torch.from_numpy(before)[None], "label": torch.zeros(1, 4, 2, 2, dtype=torch.uint8)}
    moved = to_device(batch, torch.device("cpu"))
    assert all(moved[name] is values for name, values in batch.items())  # what is no RGBA image stays as it is


@given(sides, sides, st.integers(0, 2**32))
def test_an_image_in_a_larger_canvas_is_the_normalised_one_or_its_mirror(height, width, seed):
    rgb, crop = image_of(height, width), drawn(height, width, 80, seed)
    sample, whole = on_device(crop, rgb), normalise(rgb)
    np.testing.assert_array_equal(sample[(slice(None), *crop.within)], whole[..., ::-1] if crop.mirror else whole)
    assert np.count_nonzero(sample) == np.count_nonzero(whole)  # all around it is the mean colour


def test_both_ends_of_the_long_side_are_drawn():
    rng = np.random.default_rng(0)
    assert {by_long_side((10, 20), [20, 22], rng) for _ in range(60)} == {(10, 20), (10, 21), (11, 22)}


@given(sides, sides, st.floats(0.5, 1.5), st.integers(8, 60), st.integers(0, 2**32))
def test_image_and_planes_stay_aligned(height, width, scale, side, seed):
    label = (np.random.default_rng(1).random((height, width)) < 0.5).astype(np.uint8)
    rgb = np.repeat(label[..., None] * 255, 3, axis=2)
    crop = drawn(height, width, side, seed)
    image, cropped, soft = on_device(crop, rgb), crop.label(label), crop.plane(label.astype(np.float32), fill=-1.0)
    dark, light = normalise(np.array([[[0] * 3, [255] * 3]], np.uint8))[0, 0]
    assert np.all((image[0] == light) == (cropped == 1)) and np.all((image[0] == dark) == (cropped == 0))
    assert np.all((image[0] == 0) == (cropped == VOID))
    assert np.array_equal(crop.covered(), cropped != VOID)
    assert soft.dtype == np.float32 and np.array_equal(soft, np.where(cropped == VOID, -1.0, cropped))

    crop = drawn(height, width, side, seed, scale)
    image, cropped = on_device(crop, rgb), crop.label(label)
    size = scaled((height, width), scale)
    assert image.shape == (3, side, side) and image.dtype == np.float32 and cropped.dtype == np.uint8
    assert set(np.unique(cropped)) <= {0, 1, VOID}  # no interpolation invents a class
    assert np.count_nonzero(cropped != VOID) == crop.covered().sum() == min(size[0], side) * min(size[1], side)


def test_each_plane_has_a_resampling_of_its_own():
    saliency = image_of(20, 30)[..., 0]
    crop = Crop((40, 60), (slice(0, 40), slice(0, 60)), (slice(0, 40), slice(0, 60)), 60, mirror=False)
    for bicubic in (True, False):
        found = crop.plane(saliency, fill=7, bicubic=bicubic)
        np.testing.assert_array_equal(found[:40], rescale(saliency, 2.0, bicubic))
        assert (found[40:] == 7).all()


def test_equal_generators_give_equal_crops():
    assert drawn(40, 60, 32, 7, 1.2) == drawn(40, 60, 32, 7, 1.2) != drawn(40, 60, 32, 8, 1.2)


DEEPLAB = np.load(Path(__file__).parent / "golden" / "augment_deeplabv2.npz")
MEAN_BGR = np.array([104.008, 116.669, 122.675], np.float32)  # of deeplab-pytorch, subtracted from 0..255


@pytest.mark.parametrize(
    ("case", "scale", "side", "start", "mirror"),
    [(0, 0.75, 48, (0, 0), True), (1, 1.25, 64, (0, 23), False), (2, 1.5, 48, (41, 18), True)],
)
def test_deeplab_s_crops_are_the_golden_ones(case: int, scale: float, side: int, start: tuple[int, int], mirror: bool) -> None:
    image, label = DEEPLAB[f"image_bgr{case}"][..., ::-1], DEEPLAB[f"label{case}"]
    drawn = iter([begin for begin, extent in zip(start, by_factor(label.shape, scale), strict=True) if extent >= side])
    rng: Any = SimpleNamespace(choice=min, integers=lambda *_, **__: next(drawn), random=lambda: 0.0 if mirror else 1.0)
    image, label = OneOf((scale,))(image, label, rng)
    crop = Crop.drawn(label.shape, side, rng, top_left=True, mirrors_canvas=True)
    assert np.array_equal(crop.label(label), DEEPLAB[f"out_label{case}"])
    pixels = (
        crop.normalised(crop.seen(image)) * np.array(STANDARD_DEVIATION)[:, None, None] + np.array(MEAN)[:, None, None]
    ) * 255
    golden = (DEEPLAB[f"out_image{case}"] + MEAN_BGR[:, None, None])[::-1]
    np.testing.assert_allclose(pixels[:, crop.covered()], golden[:, crop.covered()], atol=1e-3)
    assert not crop.normalised(crop.seen(image))[:, ~crop.covered()].any()
