"""PAMR: the golden vectors of two public codes, and what holds whatever the image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.pamr import plain, scene
from imagesets.item import Item
from maps.labelling import label_map
from maps.maps import Maps
from maps.normalising import max_normalised
from maps.reading import as_they_are
from refiners import pamr
from tests.golden_vectors import golden
from tests.two_colours import context, write_items

CLOSE = {"atol": 2e-5, "rtol": 0}


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("iterations", [1, 5, 10])
def test_it_refines_as_recurseed_s_code(iterations):
    known = golden("pamr_rsepm")
    found = pamr.refined(known["image_01"], known["mask"], iterations=iterations)
    torch.testing.assert_close(found, known[f"out_it{iterations}"], **CLOSE)


def test_sigma_is_the_one_of_recurseed_s_code():
    known = golden("pamr_rsepm")
    torch.testing.assert_close(pamr.refined(known["image_01"], known["mask"], sigma=0.3), known["out_it10_sigma0p3"], **CLOSE)


def test_inside_a_window_the_rest_of_the_image_counts_for_nothing():
    known = golden("pamr_rsepm")
    windows = known["window_y0x0y1x1"][None]
    found = pamr.refined_inside(known["image_01"], known["mask"], windows)
    torch.testing.assert_close(found, known["out_it10_window"], **CLOSE)
    other = known["image_01"] + pamr.outside(windows, known["mask"].shape[2:])[:, None]
    assert torch.equal(pamr.refined_inside(other, known["mask"], windows), found)


@pytest.mark.parametrize(
    ("name", "dilations", "iterations"),
    [
        ("it1", pamr.DILATIONS, 1),
        ("it5", pamr.DILATIONS, 5),
        ("it10", pamr.DILATIONS, 10),
        ("it1_dil1", (1,), 1),
        ("it10_dil1_2_4", (1, 2, 4), 10),
    ],
)
def test_it_refines_as_visinf_s_code(name, dilations, iterations):
    known = golden("pamr_visinf")
    masks = torch.nn.functional.interpolate(known["mask"], size=known["image"].shape[2:], mode="bilinear", align_corners=True)
    torch.testing.assert_close(pamr.refined(known["image"], masks, dilations, iterations), known[f"out_{name}"], **CLOSE)


def test_the_spread_of_colours_is_visinf_s():
    known = golden("pamr_visinf")
    around = pamr.Neighbours(pamr.DILATIONS, known["image"].shape[-2:])
    torch.testing.assert_close(pamr.spread(known["image"], around)[0], known["local_std"], atol=1e-6, rtol=0)


def test_it_is_the_unfolded_form():
    images, maps = scene(32, 3)
    torch.testing.assert_close(pamr.refined(images, maps), plain(images, maps), **CLOSE)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30), st.floats(0, 1))
def test_a_constant_map_stays_as_it_is(seed, height, width, value):
    maps = torch.full((1, 2, height, width), value)
    torch.testing.assert_close(pamr.refined(drawn(seed, 1, 3, height, width), maps), maps, atol=1e-5, rtol=0)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.floats(0.1, 300), st.floats(-100, 100))
def test_scale_and_offset_of_a_colour_do_not_count(seed, scale, offset):
    images, maps = drawn(seed, 1, 3, 20, 24), drawn(seed + 1, 1, 2, 20, 24)
    images = (images * 255).round()  # so that an offset rounds nothing away
    found = pamr.refined(images * round(scale, 1) + round(offset), maps)
    torch.testing.assert_close(found, pamr.refined(images, maps), atol=1e-3, rtol=0)


def test_in_an_image_of_one_colour_all_neighbours_count_alike():
    maps = drawn(0, 1, 1, 9, 9)
    found = pamr.refined(torch.full((1, 3, 9, 9), 0.3), maps, (1,), 1)
    window = maps[0, 0, 3:6, 3:6]
    torch.testing.assert_close(found[0, 0, 4, 4], (window.sum() - window[1, 1]) / 8)


def test_a_map_stops_at_an_edge_of_colour():
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8:] = 1
    maps = torch.zeros(1, 1, 16, 16)
    maps[..., 2:6] = 1
    found = pamr.refined(image, maps, (1, 2), 10)
    assert found[..., :8].mean() > 0.3 and found[..., 8:].max() < 1e-3


@pytest.mark.parametrize("images", [1, 3])
def test_images_of_a_batch_do_not_touch_one_another(images):
    rgb, maps = drawn(0, images, 3, 12, 10), drawn(1, images, 4, 12, 10)
    alone = torch.cat([pamr.refined(rgb[i : i + 1], maps[i : i + 1, j : j + 1]) for i in range(images) for j in range(4)])
    torch.testing.assert_close(pamr.refined(rgb, maps).flatten(0, 1)[:, None], alone)


@pytest.mark.parametrize("at_once", [1, 2**30])
def test_windows_of_a_batch_are_refined_as_each_alone(monkeypatch, at_once):
    monkeypatch.setattr(pamr, "AT_ONCE", at_once)
    images, maps = drawn(0, 4, 3, 20, 26), drawn(1, 4, 2, 20, 26)
    windows = torch.tensor([[2, 3, 18, 20], [5, 0, 6, 24], [2, 3, 18, 20], [0, 0, 0, 0]])
    found = pamr.refined_inside(images, maps, windows)
    whole = pamr.refined(images, maps, windows=windows)  # as on a GPU, which cuts nothing
    for place, (top, left, bottom, right) in enumerate(windows.tolist()):
        part = ..., slice(top, bottom), slice(left, right)
        alone = pamr.refined(images[place][part][None], maps[place][part][None])[0]
        torch.testing.assert_close(found[place][part], alone, **CLOSE)
        torch.testing.assert_close(whole[place][part], alone, **CLOSE)
    assert not found.masked_fill(~pamr.outside(windows, (20, 26))[:, None], 0).any()


def test_a_window_without_pixels_is_zero_everywhere():
    maps = pamr.refined_inside(drawn(0, 1, 3, 8, 8), drawn(1, 1, 2, 8, 8), torch.tensor([[4, 4, 4, 4]]))
    assert not maps.any()


def test_a_map_without_classes_is_fine_and_another_size_is_not():
    assert pamr.refined(drawn(0, 1, 3, 8, 8), torch.zeros(1, 0, 8, 8)).shape == (1, 0, 8, 8)
    with pytest.raises(ValueError, match="must have one size"):
        pamr.refined(drawn(0, 1, 3, 8, 8), drawn(0, 1, 1, 4, 4))


def test_the_mathematics_needs_no_gradient():
    maps = max_normalised(drawn(0, 1, 2, 8, 8).requires_grad_())
    assert not pamr.refined(drawn(1, 1, 3, 8, 8), maps).requires_grad


SETTINGS = {"iterations": 10, "dilations": [1, 2], "sigma": 0.1, "stride": 1, "seed_threshold": 0.3}


def two_halves(tmp_path) -> Item:
    """An image with a dark and a light half."""
    (item,) = write_items(tmp_path, [(1,)], size=(24, 32))
    rgb = np.full((24, 32, 3), 40, np.uint8)
    rgb[:, 16:] = 200
    Image.fromarray(rgb).save(item.image)
    return item


def test_the_masks_of_the_stage_end_where_a_colour_ends(tmp_path):
    item, peak = two_halves(tmp_path), np.zeros((1, 24, 32), np.float32)
    peak[:, :, 8:18] = 1
    records = {item.id: Maps(np.array([1]), (24, 32), (peak,), read=as_they_are)}
    found = pamr.masks(context(SETTINGS, [item], maps=records))(item)["label"]
    assert found.dtype == np.uint8 and (found[:, 8:16] == 2).all() and not found[:, 16:].any()
    again = Maps.of(pamr.maps(context(SETTINGS, [item], maps=records))(item), as_they_are)
    assert np.array_equal(found, label_map(again.full(), again.keys, 0.3)) and again.strided().shape == (1, 6, 8)


def test_on_a_coarser_grid_the_stage_still_writes_whole_images(tmp_path):
    item = two_halves(tmp_path)
    records = {item.id: Maps(np.array([1]), (24, 32), (np.ones((1, 24, 32), np.float32),), read=as_they_are)}
    where = context(SETTINGS | {"stride": 4}, [item], maps=records)
    assert (pamr.masks(where)(item)["label"] == 2).all()
    assert Maps.of(pamr.maps(where)(item), as_they_are).grids[0].shape == (1, 6, 8)


def test_a_background_map_of_the_method_s_own_is_refined_too_and_goes_before_the_threshold(tmp_path):
    item = two_halves(tmp_path)
    planes = drawn(0, 2, 24, 32).numpy()  # background first
    records = {item.id: Maps(np.array([1]), (24, 32), (planes,), read=as_they_are)}
    found = pamr.masks(context(SETTINGS, [item], maps=records))(item)["label"]
    refined = Maps.of(pamr.maps(context(SETTINGS, [item], maps=records))(item), as_they_are)
    assert (found == 2 * (refined.full()[0] > refined.background(full=True)).numpy()).mean() > 0.99  # half precision
    assert 0.2 < (found == 2).mean() < 0.8


def test_an_image_without_classes_is_background(tmp_path):
    item = two_halves(tmp_path)
    where = context(SETTINGS, [item], maps={item.id: Maps(np.zeros(0, np.int64), (24, 32), (), read=as_they_are)})
    assert not pamr.masks(where)(item)["label"].any()
    assert Maps.of(pamr.maps(where)(item), as_they_are).full().shape == (0, 24, 32)


def test_a_label_map_of_another_refiner_is_refined_and_undecided_pixels_stay(tmp_path):
    item, label = two_halves(tmp_path), np.where(np.arange(32) < 18, 3, 8).astype(np.uint8)[None].repeat(24, 0)
    label[:4] = 255
    stage = pamr.masks_of_masks(context(SETTINGS, [item], masks={item.id: {"label": label}}))
    found = stage(item)["label"]
    assert (found[:4] == 255).all() and (found[4:, :16] == 3).all() and (found[4:, 18:] == 8).all()
    assert (found[4:, 16:18] == 8).mean() > (label[4:, 16:18] == 8).mean() == 0
    whole = np.full((24, 32), 5, np.uint8)
    assert np.array_equal(pamr.masks_of_masks(context(SETTINGS, [item], masks={item.id: {"label": whole}}))(item)["label"], whole)
