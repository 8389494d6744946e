"""CertainFilter: the golden vectors of RecurSeed's Eq. 10, and what it never does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagesets.item import VOID
from refiners.certain_filter import certain
from tests.golden_vectors import golden


def test_labels_are_the_golden_ones():
    known = golden("certain_filter")
    assert torch.equal(certain(known["prob"]).int(), known["label"])
    masked = certain(known["prob"] * known["image_label"][..., None, None])
    assert torch.equal(masked.int(), known["label_masked"]) and masked.dtype == torch.uint8
    assert torch.equal(masked.masked_fill(~known["valid"].bool(), VOID).int(), known["label_masked_valid"])


def test_every_threshold_of_the_golden_sweep_gives_its_labels():
    known = golden("certain_filter")
    for threshold, label in zip(known["sweep_delta_fg"].tolist(), known["sweep_label"], strict=True):
        assert torch.equal(certain(known["prob"], foreground=threshold).int(), label)


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64])
def test_values_equal_to_a_threshold_are_undecided_in_every_precision(kind):
    maps = torch.tensor([[[0.55, 0.10, 0.56, 0.09]]], dtype=kind)
    assert certain(maps).tolist() == [[255, 255, 1, 0]]


@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(0, 1), st.floats(0, 1))
def test_it_never_yields_a_class_that_the_image_has_not(seed, classes, foreground, background):
    generator = torch.Generator().manual_seed(seed)
    maps, labels = torch.rand((2, classes, 6, 7), generator=generator), torch.rand((2, classes), generator=generator) > 0.5
    found = certain(maps * labels[..., None, None], foreground, background)
    assert found.shape == (2, 6, 7)
    for own, present in zip(found, labels, strict=True):
        allowed = {0, 255, *(present.nonzero()[:, 0] + 1).tolist()}
        assert set(own.unique().tolist()) <= allowed


def test_without_any_class_every_pixel_is_background():
    assert certain(torch.zeros(0, 1, 2)).tolist() == [[0, 0]]


def test_of_equal_classes_the_first_wins():
    assert certain(torch.full((3, 1, 1), 0.9)).tolist() == [[1]]
