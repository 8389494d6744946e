"""EdgePredict: superpixels between the edges of maps label what the maps leave unknown."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from refiners.edge_predict import edges, predicted, relabelled
from tests.golden_vectors import golden

VECTORS = {name: values.numpy() for name, values in golden("ep_ccl").items()}
SIZES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels uint8 [H,W] of background, two classes and unknown, and edges [H,W]."""
    size = draw(SIZES)
    labels = draw(arrays.arrays(np.uint8, size, elements=st.sampled_from([0, 1, 7, 255])))
    return labels, draw(arrays.arrays(np.uint8, size, elements=st.sampled_from([0, 255])))


@pytest.mark.parametrize(("source", "name"), [("max", "max"), ("classes", "or")])
def test_edges_and_labels_are_those_of_the_public_functions(source: str, name: str) -> None:
    found = edges(VECTORS["prob"], source)
    assert np.array_equal(found, VECTORS[f"edge_{name}"])
    labels = VECTORS["label_in"].astype(np.uint8)
    assert np.array_equal(relabelled(labels, found), VECTORS[f"refined_{name}"])
    maps, batch = torch.from_numpy(VECTORS["prob"])[None], torch.from_numpy(VECTORS["label_in"]).long()[None]
    answer = predicted(maps, batch, source)
    assert answer.dtype == torch.int64 and np.array_equal(answer[0], VECTORS[f"refined_{name}"])


@pytest.mark.parametrize("case", range(len(VECTORS["case_binary"])))
def test_hand_made_superpixels_give_the_public_functions_labels(case: int) -> None:
    found = relabelled(VECTORS["case_label_in"][case].astype(np.uint8), 255 - VECTORS["case_binary"][case])
    assert np.array_equal(found, VECTORS["case_refined"][case])


@given(cases())
def test_a_known_label_stays_and_no_label_appears_that_was_not_there(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, edge = case
    found = relabelled(labels, edge)
    known = (labels != 255) & ~((labels == 0) & (edge > 0))
    assert np.array_equal(found[known], labels[known])
    assert set(np.unique(found)) <= {*np.unique(labels), 255}


@given(cases())
def test_ep_of_its_own_result_changes_nothing(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, edge = case
    once = relabelled(labels, edge)
    assert np.array_equal(relabelled(once, edge), once)


def test_flat_maps_have_no_edge_and_every_unknown_pixel_takes_the_most_frequent_label() -> None:
    maps = torch.full((1, 2, 6, 8), 0.5)
    labels = torch.full((1, 6, 8), 255)
    labels[0, :4] = 2
    assert edges(maps[0].numpy()).sum() == 0
    assert (predicted(maps, labels) == 2).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3)])
@pytest.mark.parametrize("source", ["max", "classes"])
def test_images_of_few_cells_and_images_without_classes_work(size: tuple[int, int], source: str) -> None:
    for classes in (0, 2):
        maps = np.random.default_rng(0).random((classes, *size), np.float32)
        assert edges(maps, source).shape == size
    assert predicted(torch.rand(1, 2, *size), torch.full((1, *size), 255), source).shape == (1, *size)


def test_more_superpixels_than_uint8_counts_are_told_apart() -> None:
    edge = np.full((64, 64), 255, np.uint8)
    edge[::2, ::2] = 0  # 1024 superpixels of one pixel
    labels = np.where(edge == 0, 255, 3).astype(np.uint8)
    assert np.array_equal(relabelled(labels, edge), labels)  # each alone is unknown


@pytest.mark.parametrize("source", ["max", "classes"])
def test_a_window_is_as_an_image_of_its_own_and_what_is_around_it_stays(source: str) -> None:
    maps, labels = torch.from_numpy(VECTORS["prob"])[None], torch.from_numpy(VECTORS["label_in"])[None]
    wide, end = torch.nn.functional.pad(maps, (5, 0, 9, 40)), 9 + labels.shape[1]
    all_unknown = torch.full((1, *wide.shape[2:]), 255)
    all_unknown[:, 9:end, 5:] = labels
    found = predicted(wide, all_unknown, source, torch.tensor([[9, 5, end, wide.shape[3]]]))
    assert torch.equal(found[:, 9:end, 5:].int(), predicted(maps, labels, source))
    all_unknown[:, 9:end, 5:] = found[:, 9:end, 5:] = 0
    assert torch.equal(found, all_unknown)
