"""Thresholded seeds: the refiner `none`."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from maps.labelling import label_map, winners
from maps.maps import Maps
from maps.reading import as_they_are
from refiners import threshold
from tests.two_colours import context, write_items


def test_a_pixel_goes_to_its_highest_map_and_to_background_where_none_exceeds_the_threshold():
    maps = torch.tensor([[[0.9, 0.2, 0.3, 0.0]], [[0.1, 0.6, 0.3, 0.1]]])
    assert label_map(maps, np.array([4, 14]), 0.25).tolist() == [[5, 15, 5, 0]]


def test_a_tie_with_the_threshold_is_background():
    assert label_map(torch.full((1, 2, 2), 0.5), np.array([3]), 0.5).max() == 0


def test_no_map_at_all_is_all_background():
    found = label_map(torch.zeros((0, 3, 5)), np.array([], np.int64), 0.3)
    assert found.shape == (3, 5) and found.dtype == np.uint8 and found.max() == 0


def test_undefined_maps_are_background():
    assert winners(torch.full((2, 3, 3), torch.nan), 0.3).max() == 0


@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0, 1))
def test_it_is_the_argmax_of_the_threshold_stacked_on_the_maps(seed, n, level):
    maps = np.random.default_rng(seed).random((n, 6, 7), np.float32)
    stack = np.concatenate([np.full((1, 6, 7), level, np.float32), maps])
    assert np.array_equal(winners(torch.from_numpy(maps), np.float32(level).item()), stack.argmax(axis=0))


def test_the_stage_cuts_at_the_threshold_of_the_method_that_wrote_the_maps(tmp_path):
    items = write_items(tmp_path, [(1,), ()], size=(16, 16))
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16)
    maps = [Maps(np.array([1]), (16, 16), (ramp,), read=as_they_are), Maps(np.array([], np.int64), (16, 16), ())]
    records = {item.id: own for item, own in zip(items, maps, strict=True)}
    one = threshold.masks(context({"maps.seed_threshold": 0.5}, items, maps=records))
    assert np.array_equal(one(items[0])["label"], np.where(ramp[0] > 0.5, 2, 0))
    assert one(items[1])["label"].max() == 0


def test_a_background_map_of_the_method_s_own_takes_the_place_of_the_threshold(tmp_path):
    items = write_items(tmp_path, [(1,), ()], size=(16, 16))
    planes = np.random.default_rng(0).random((2, 16, 16), np.float32)  # background first
    records = {"image0": Maps(np.array([1]), (16, 16), (planes,), read=as_they_are)}
    records["image1"] = Maps(np.array([], np.int64), (16, 16), (), read=as_they_are)
    one = threshold.masks(context({}, items, maps=records))  # the method has no threshold
    assert np.array_equal(one(items[0])["label"], np.where(planes[1] > planes[0], 2, 0))
    assert one(items[1])["label"].max() == 0


def test_after_certain_filter_what_it_does_not_let_through_is_void(tmp_path):
    items = write_items(tmp_path, [(0, 1), ()], size=(16, 16))
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    planes = np.stack([ramp, np.full((16, 16), 0.2, np.float32)])
    maps = [Maps(np.array([0, 1]), (16, 16), (planes,), read=as_they_are), Maps(np.array([], np.int64), (16, 16), ())]
    records = {item.id: own for item, own in zip(items, maps, strict=True)}
    one = threshold.certain_masks(context({"maps.certain_foreground": 0.7, "maps.certain_background": 0.1}, items, maps=records))
    assert np.array_equal(one(items[0])["label"], np.where(ramp > 0.7, 1, 255))
    assert one(items[1])["label"].max() == 0
