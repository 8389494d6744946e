"""Contour quality F against HFPL's public code, and what must hold of any contour."""

from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from benchmarks.contour import example, milliseconds, published_scan
from maps.labelling import label_map
from metrics import contour, region, thresholds

GOLDEN = Path(__file__).parent / "golden"

label_maps = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, 3, 255]))


def pairs(golden, images: int, kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(golden[f"gt{kind}{image}"], golden[f"pred{kind}{image}"]) for image in range(images)]


@pytest.mark.parametrize("name", ["contour_miou", "contour_voc_size"])
def test_counts_and_f_are_those_of_the_public_code(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    images, classes, _ = golden["counts"].shape
    found = np.stack([contour.matches(*pair, classes) for pair in pairs(golden, images, "_")])
    assert np.array_equal(found, golden["counts"])
    values = contour.f(found.sum(0))
    np.testing.assert_allclose(np.nan_to_num(values, nan=1), golden["f_per_class"], atol=1e-6)
    np.testing.assert_allclose(contour.mean_f(found.sum(0), "all"), golden["f_mean"], atol=1e-6)


def test_regions_and_seeds_beside_them_are_those_of_the_public_code():
    golden = np.load(GOLDEN / "contour_miou.npz")
    classes, images = int(golden["num_classes"]), len(golden["counts"])
    given = pairs(golden, images, "_")
    matrix = sum(region.confusion(*pair, classes + 1) for pair in given)
    np.testing.assert_allclose(100 * np.nan_to_num(region.iou(matrix)), golden["iou_percent"], atol=1e-4)
    np.testing.assert_allclose(100 * region.miou(matrix, "all"), golden["miou_percent"], atol=1e-4)
    maps = [(golden[f"cam_{image}"].astype(np.float32), golden[f"camkeys_{image}"]) for image in range(images)]
    labels = [label_map(*made, 0.25) for made in maps]
    counts = sum(contour.matches(truth, label, classes) for (truth, _), label in zip(given, labels, strict=True))
    np.testing.assert_allclose(100 * contour.mean_f(counts, "all"), golden["f_mean_cam025_printed_percent"], atol=0.02)
    grid, curve = golden["cam_thresholds"], golden["cam_iou_curve"]
    matrices = sum(thresholds.sweep(*made, truth, grid, classes) for made, (truth, _) in zip(maps, given, strict=True))
    np.testing.assert_allclose(100 * np.nan_to_num(region.iou(matrices)), curve[:, :-1], atol=0.02)
    # its mean is over VOC's 21 classes, whatever their number
    np.testing.assert_allclose(100 * np.nan_to_num(region.iou(matrices)).sum(-1) / 21, curve[:, -1], atol=0.02)


def test_the_sums_over_images_are_those_of_the_second_vector():
    golden = np.load(GOLDEN / "contour_fscore.npz")
    expected = golden["per_image_class_counts"]  # rows: image, class, counts
    given, classes = pairs(golden, 1 + expected[:, 0].max(), ""), golden["sums"].shape[1]
    for image, (truth, prediction) in enumerate(given):
        found = contour.matches(truth, prediction, classes)
        for _, label, *counts in expected[expected[:, 0] == image]:
            assert found[int(label) - 1].tolist() == counts
    counts = sum(contour.matches(*pair, classes) for pair in given)
    assert np.array_equal(counts.T, golden["sums"])
    np.testing.assert_allclose(100 * contour.mean_f(counts, "all"), golden["mean_F_percent_3dp"], atol=5e-4)


@given(label_maps, st.data())
def test_a_class_at_a_time_in_its_window_counts_what_a_scan_of_whole_images_counts(truth, data):
    prediction = data.draw(arrays(np.uint8, truth.shape, elements=st.sampled_from([0, 1, 2, 3, 255])))
    assert np.array_equal(contour.matches(truth, prediction, 3), published_scan(truth, prediction, 3))


@pytest.mark.slow
def test_a_class_at_a_time_takes_less_than_a_third_of_the_time_of_the_published_scan():
    rng = np.random.default_rng(0)
    given_pairs = [example(number, rng) for number in (1, 2, 6)]
    ours, published = (milliseconds(partial(score, classes=20), given_pairs) for score in (contour.matches, published_scan))
    assert published > 3 * ours


@given(label_maps)
def test_the_truth_matches_itself_and_arguments_may_be_exchanged(truth):
    counts = contour.matches(truth, truth, 3)
    assert np.array_equal(counts[:, :2], counts[:, 2:])
    assert set(contour.f(counts)[counts[:, 2] > 0]) <= {1.0}
    other = np.roll(truth, 1, axis=0)
    assert np.array_equal(contour.matches(truth, other, 3)[:, [1, 0, 3, 2]], contour.matches(other, truth, 3))


def test_a_disk_holds_what_lies_within_its_radius():
    for radius in (1, 5, 40):
        centre = np.ones((2 * radius + 1, 2 * radius + 1))
        centre[radius, radius] = 0
        assert np.array_equal(contour.disk(radius), distance_transform_edt(centre) <= radius)


def test_a_shift_within_the_tolerance_matches_and_a_further_one_does_not():
    truth, radius = np.zeros((60, 80), np.uint8), 1  # 0.008 of a diagonal of 100 pixels, rounded up
    truth[20:40, 20:40] = 1
    scores = [contour.mean_f(contour.matches(truth, np.roll(truth, shift, 1), 1)) for shift in (0, radius, 20)]
    assert scores[0] == scores[1] == 1 and scores[2] < 0.3


def test_void_makes_a_contour_and_the_image_border_makes_none():
    whole = np.ones((6, 8), np.uint8)
    assert not contour.matches(whole, whole, 1).any()
    truth = whole.copy()
    truth[3, 4] = 255
    assert contour.matches(truth, whole, 1).tolist() == [[0, 0, 4, 0]]


def test_classes_without_a_contour_count_as_the_convention_says():
    counts = np.array([[3, 4, 4, 4], [0, 0, 5, 0], [0, 0, 0, 5], [0, 0, 0, 5], [0, 0, 0, 0]])
    values = contour.f(counts)
    first = 2 * 0.75 / 1.75
    np.testing.assert_allclose(values, [first, 0, 0, 0, np.nan])
    assert contour.mean_f(counts, "union") == pytest.approx(first / 4)
    assert contour.mean_f(counts, "truth") == pytest.approx(first / 2)
    assert contour.mean_f(counts, "all") == pytest.approx((first + 1) / 5)
    assert np.isnan(contour.mean_f(counts[4:]))
