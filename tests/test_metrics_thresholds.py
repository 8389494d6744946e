"""All thresholds in one pass are exactly one argmax per threshold."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from imagesets.errors import WrongInput
from metrics import region, thresholds

GOLDEN = Path(__file__).parent / "golden"
GRID = np.arange(60) / 100

# hundredths, so that values fall exactly on thresholds and on each other
coarse_maps = st.integers(0, 3).flatmap(lambda count: arrays(np.int64, (count, 5, 6), elements=st.integers(-5, 70)))


def one_argmax_each(maps, keys, truth, grid, foreground_classes):
    names = np.concatenate([[0], keys + 1]).astype(np.uint8)
    stacks = [np.pad(maps, ((1, 0), (0, 0), (0, 0)), constant_values=threshold) for threshold in grid]
    return [region.confusion(truth, names[stack.argmax(0)], foreground_classes + 1) for stack in stacks]


@given(coarse_maps, arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2, 3, 4, 255])), st.permutations(range(4)))
def test_one_pass_equals_one_argmax_per_threshold(hundredths, truth, order):
    maps, keys = (hundredths / 100).astype(np.float32), np.sort(order[: len(hundredths)]).astype(np.int64)
    found = thresholds.sweep(maps, keys, truth, GRID, 4)
    assert np.array_equal(found, one_argmax_each(maps, keys, truth, GRID, 4))


def test_seeds_are_scored_as_irn_does():
    golden = np.load(GOLDEN / "miou.npz")
    grid = golden["thresholds"]
    found = sum(
        thresholds.sweep(golden[f"cam{index}"], golden[f"keys{index}"], truth, grid, 20)
        for index, truth in enumerate(golden["gt"])
    )
    for index, name in enumerate(["0.15", "0.21", "0.3"]):
        assert np.array_equal(found[index], golden[f"confusion_{name}"])
        np.testing.assert_allclose(region.miou(found[index]), golden[f"miou_{name}"], atol=1e-6)


def test_a_value_equal_to_the_threshold_is_background():
    maps, truth = np.full((1, 1, 1), 0.15, np.float32), np.ones((1, 1), np.uint8)
    found = thresholds.sweep(maps, np.array([0]), truth, np.array([0.14, 0.15, 0.16]), 1)
    assert found[:, 1].tolist() == [[0, 1], [1, 0], [1, 0]]


def test_an_image_without_classes_is_background_at_every_threshold():
    found = thresholds.sweep(np.zeros((0, 2, 2)), np.array([], np.int64), np.ones((2, 2), np.uint8), GRID, 3)
    assert found[:, 1, 0].tolist() == [4] * 60
    assert found.sum() == 240


def test_a_background_map_takes_the_place_of_every_threshold():
    rng = np.random.default_rng(0)
    maps, background, truth = rng.random((2, 5, 6), np.float32), rng.random((5, 6), np.float32), rng.integers(0, 3, (5, 6))
    maps[0, 0], background[0] = 0.5, 0.5  # a value equal to it is background
    found = thresholds.sweep(maps, np.array([0, 1]), truth.astype(np.uint8), GRID, 2, background)
    once = region.confusion(truth.astype(np.uint8), np.stack([background, *maps]).argmax(0).astype(np.uint8), 3)
    assert (found == once).all() and 0 < once[:, 0].sum() < once.sum()


def test_wrong_sizes_and_labels_are_refused():
    maps, keys = np.zeros((1, 2, 2), np.float32), np.array([0])
    with pytest.raises(WrongInput, match="size"):
        thresholds.sweep(maps, keys, np.zeros((2, 3), np.uint8), GRID, 1)
    with pytest.raises(WrongInput, match="mask holds label 9"):
        thresholds.sweep(maps, keys, np.full((2, 2), 9, np.uint8), GRID, 1)


def test_the_best_threshold_is_the_lowest_of_the_highest_mious():
    curve = {"threshold": [0.1, 0.2, 0.3, 0.4], "miou": [None, 0.5, 0.7, 0.7]}
    assert thresholds.best(curve) == {"threshold": 0.3, "miou": 0.7}


def test_recall_falls_as_the_threshold_rises():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (20, 20)).astype(np.uint8)
    matrices = thresholds.sweep(rng.random((1, 20, 20), np.float32), np.array([0]), truth, GRID, 1)
    recall = thresholds.curve(matrices, GRID)["recall"]
    assert recall[0] == 1 and recall == sorted(recall, reverse=True)
