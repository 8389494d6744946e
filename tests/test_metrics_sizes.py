"""IoU by the size of objects: its parts add up to the class's union, and its rules are those of its docstring."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from metrics import region, sizes

SMALL, MEDIUM, LARGE = range(3)
label_maps = arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 0, 1, 2, 255]))


def square(side: int, place: int = 1, label: int = 1) -> np.ndarray:
    image = np.zeros((100, 100), np.uint8)
    image[place : place + side, place : place + side] = label
    return image


def plain(truth: np.ndarray, prediction: np.ndarray, label: int) -> np.ndarray:
    """The counts [3,4] of one class, object by object and component by component over the whole image."""
    counted, eight = truth != 255, np.ones((3, 3))
    objects, number = ndimage.label(truth == label, eight)
    components, found = ndimage.label(prediction == label, eight)
    counts = np.zeros((3, 4), np.int64)

    def size(area: int) -> int:
        return SMALL if 100 * area <= truth.size else MEDIUM if 10 * area <= truth.size else LARGE

    for index in range(1, number + 1):
        own = objects == index
        counts[size(own.sum())] += [(own & (prediction == label)).sum(), own.sum(), 0, 1]
    for index in range(1, found + 1):
        component = (components == index) & counted
        covered = [(component & (objects == own)).sum() for own in range(1, number + 1)]
        of = size((objects == 1 + np.argmax(covered)).sum()) if any(covered) else size(component.sum())
        counts[of][2] += (component & (objects == 0)).sum()
    return counts


@given(label_maps, label_maps)
def test_counts_are_those_of_a_plain_scan_and_add_up_to_the_unions_of_classes(truth, prediction):
    counts = sizes.by_size(truth, prediction, 2)
    assert np.array_equal(counts, [plain(truth, prediction, label) for label in (1, 2)])
    matrix = region.confusion(truth, prediction, 3)
    right, pixels, predicted = np.diag(matrix)[1:], matrix.sum(1)[1:], matrix[:, 1:].sum(0)
    assert np.array_equal(counts[..., :3].sum(1), np.stack([right, pixels, predicted - right], axis=1))


@pytest.mark.parametrize(("side", "size"), [(10, SMALL), (11, MEDIUM), (31, MEDIUM), (32, LARGE)])
def test_objects_are_small_up_to_1_percent_medium_up_to_10_and_large_above(side, size):
    counts = sizes.by_size(square(side), square(side), 1)
    assert counts[0, size].tolist() == [side * side, side * side, 0, 1] and counts[0, :, 3].sum() == 1
    assert sizes.iou(counts)[0, size] == 1 and np.isnan(np.delete(sizes.iou(counts)[0], size)).all()


def test_what_is_predicted_too_much_counts_for_the_object_that_it_covers_most_else_for_its_own_size():
    truth = square(20, 1) + square(5, 40)
    halo = np.maximum(square(26, 1), square(5, 40))  # a component around the medium object
    assert sizes.by_size(truth, halo, 1)[0, :, 2].tolist() == [0, 26**2 - 20**2, 0]
    stray = np.maximum(truth, square(40, 50))  # a large component that covers no object
    assert sizes.by_size(truth, stray, 1)[0, :, 2].tolist() == [0, 0, 1600]
    bridge = truth.copy()
    bridge[10:45, 10:45] |= truth[10:45, 10:45] | 1  # one component over both objects: it covers more of the medium one
    wrong = (bridge != truth).sum()
    assert sizes.by_size(truth, bridge, 1)[0, :, 2].tolist() == [0, wrong, 0]


def test_a_halo_across_a_void_border_belongs_to_its_object():
    truth = square(40, 10)
    truth[8:52, 8:52][truth[8:52, 8:52] == 0] = 255
    assert sizes.by_size(truth, square(50, 5), 1)[0].tolist() == [[0] * 4, [0] * 4, [1600, 1600, 2500 - 44**2, 1]]


def test_miou_hides_a_small_object_that_the_column_shows():
    truth = np.maximum(square(60, 1), square(6, 80))
    missed = square(60, 1)
    counts = sizes.by_size(truth, missed, 1)
    found = sizes.means(counts)
    assert region.iou(region.confusion(truth, missed, 2))[1] > 0.98
    assert found["iou_small"] == 0 and found["iou_large"] == 1 and np.isnan(found["iou_medium"])


def test_the_mean_is_over_the_classes_with_objects_of_the_size():
    truth, prediction = square(5, 1, 1), np.maximum(square(5, 1, 1), square(6, 50, 2))
    counts = sizes.by_size(truth, prediction, 3)
    assert counts[1, SMALL].tolist() == [0, 0, 36, 0] and sizes.means(counts)["iou_small"] == 1
