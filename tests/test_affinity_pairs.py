"""AffinityNet's pairs, labels, losses and walk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refiners.affinity_network import Head
from refiners.affinity_pairs import affinities, kinds_of_pairs, losses, reachable
from refiners.affinity_walk import neighbours, pooled, walk, walked_labels
from refiners.affinitynet import grid_labels
from refiners.irn_losses import BACKGROUND, DIFFERENT, FOREGROUND
from refiners.pair_geometry import anchors, directions
from refiners.random_walk import propagate

FOLDER = Path(__file__).parent / "golden"
TRAIN = np.load(FOLDER / "affinity_train.npz")
WALKS = {name: np.load(FOLDER / f"{name}.npz") for name in ("affinity_rw", "affinity_rw_small")}
OFFSETS = [(0, dx) for dx in range(1, 5)] + [(dy, dx) for dy in range(1, 5) for dx in range(-4, 5) if dy * dy + dx * dx < 25]
ORDER = [directions(5).index(offset) for offset in OFFSETS]  # our planes in the order of the vectors
LAYERS = ("f8_3", "f8_4", "f8_5", "f9")


def head(golden) -> Head:
    """The head with the weights of a file; its layers are narrower than ours."""
    made = Head((1, 1, 1))
    for name in LAYERS:
        getattr(made, name).weight = torch.nn.Parameter(torch.from_numpy(golden[f"w_{name}"])[:, :, None, None])
    return made


def features(golden) -> tuple[Head, torch.Tensor]:
    made = head(golden)
    return made, made(*(torch.from_numpy(golden[name]) for name in ("conv4", "conv5", "conv6")))


def test_pairs_are_the_golden_ones():
    size = TRAIN["label_map"].shape
    rows, columns = anchors(size, 5)
    cells = np.arange(TRAIN["label_map"].size).reshape(size)
    assert np.array_equal(cells[rows, columns].ravel(), TRAIN["ind_from"])
    ends = [cells[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x].ravel() for y, x in OFFSETS]
    assert np.array_equal(ends, TRAIN["ind_to"]) and sorted(OFFSETS) == sorted(directions(5))


def golden_label() -> np.ndarray:
    stacks = TRAIN["label_scores_pooled"].transpose(2, 0, 1).reshape(2, -1, *TRAIN["label_map"].shape)
    return grid_labels(stacks, np.arange(stacks.shape[1] - 1))


def golden_kinds(images: int = 1) -> torch.Tensor:
    return kinds_of_pairs(torch.from_numpy(golden_label()).expand(images, -1, -1), 20, 5)[ORDER]


def test_labels_on_the_grid_are_the_golden_ones():
    assert np.array_equal(golden_label(), TRAIN["label_map"])


@pytest.mark.parametrize(("kind", "name"), [(BACKGROUND, "bg_pos"), (FOREGROUND, "fg_pos"), (DIFFERENT, "neg")])
def test_kinds_of_pairs_are_the_golden_ones(kind, name):
    assert np.array_equal((golden_kinds() == kind).flatten(2)[:, 0], TRAIN[name])


def test_affinities_losses_and_gradients_are_the_golden_ones():
    made, vectors = features(TRAIN)
    affinity = affinities(vectors, 5)[ORDER]
    np.testing.assert_allclose(affinity.detach().flatten(2).transpose(0, 1), TRAIN["aff"], rtol=1e-5)
    found = losses(affinity, golden_kinds(images=len(vectors)))
    expected = [TRAIN["bg_loss"] / 4, TRAIN["fg_loss"] / 4, TRAIN["neg_loss"] / 2]
    np.testing.assert_allclose([loss.item() for loss in found.values()], expected, rtol=1e-5)
    total = sum(found.values())
    np.testing.assert_allclose(total.item(), TRAIN["loss"], rtol=1e-5)
    total.backward()
    for name in LAYERS:
        gradient, golden = getattr(made, name).weight.grad[:, :, 0, 0], TRAIN[f"grad_{name}"]
        np.testing.assert_allclose(gradient, golden, rtol=1e-4, atol=1e-4 * np.abs(golden).max())


@pytest.mark.parametrize("name", WALKS)
def test_walks_are_the_golden_ones(name):
    golden = WALKS[name]
    with torch.no_grad():
        _, vectors = features(golden)
    size, radius = vectors.shape[2:], reachable(vectors.shape[2:], 5)
    assert radius == golden["radius"]
    affinity = affinities(vectors, radius)[:, 0].numpy()
    np.testing.assert_allclose(neighbours(affinity, size, radius).toarray(), golden["aff_dense"], rtol=1e-5)
    maps = torch.from_numpy(golden["cams"].astype(np.float32))
    started = pooled(torch.cat([(1 - maps.amax(dim=0, keepdim=True)) ** float(golden["alpha"]), maps]))
    np.testing.assert_allclose(started, golden["cam_low"], rtol=1e-4, atol=1e-6)
    walked = walk(started, affinity, radius, float(golden["beta"]), int(golden["logt"]))
    np.testing.assert_allclose(walked, golden["rw_low"], rtol=1e-3, atol=1e-5)
    label = walked_labels(walked, golden["keys"], tuple(golden["image_hw"].tolist()))
    assert (label == golden["pred"]).mean() >= 0.998
    larger = torch.nn.functional.interpolate(walked[None], scale_factor=8, mode="bilinear")[0, :, : len(label), : label.shape[1]]
    np.testing.assert_allclose(larger[:, ::4, ::4], golden["rw_up"], rtol=1e-3, atol=1e-5)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


sizes = st.integers(1, 13), st.integers(1, 13)


@settings(max_examples=25)
@given(st.integers(0, 10_000), *sizes, st.sampled_from([1.0, 8.0]), st.integers(0, 6))
def test_a_walk_on_any_grid_is_the_power_of_the_dense_matrix(seed, height, width, beta, exp_times):
    maps, radius = drawn(seed, 2, height, width).abs(), reachable((height, width), 5)
    affinity = affinities(drawn(seed + 1, 1, 3, height, width), radius)[:, 0].numpy()
    matrix = torch.eye(height * width, dtype=torch.float64)
    rows, columns = anchors((height, width), radius)
    for (dy, dx), plane in zip(directions(radius), affinity, strict=True):
        for (y, x), value in np.ndenumerate(plane):
            here = (y + rows.start) * width + x + columns.start
            matrix[here, here + dy * width + dx] = matrix[here + dy * width + dx, here] = float(value) ** beta
    power = torch.linalg.matrix_power(matrix / matrix.sum(dim=0), 2**exp_times)
    expected = (maps.flatten(1).double() @ power).reshape(maps.shape)
    np.testing.assert_allclose(walk(maps, affinity, radius, beta, exp_times), expected, atol=3e-5)


@given(st.integers(0, 10_000), *sizes)
def test_a_walk_of_zero_steps_is_the_identity(seed, height, width):
    maps, radius = drawn(seed, 2, height, width).numpy(), reachable((height, width), 5)
    affinity = affinities(drawn(seed + 1, 1, 3, height, width), radius)[:, 0].numpy()
    assert np.array_equal(propagate(maps, neighbours(affinity, (height, width), radius), 0), maps)


@pytest.mark.parametrize(("side", "radius"), [(1, 1), (2, 1), (4, 1), (5, 2), (9, 4), (10, 4), (11, 5), (40, 5)])
def test_on_a_small_grid_the_radius_shrinks_so_that_pairs_are_left(side, radius):
    assert reachable((side, 50), 5) == reachable((50, side), 5) == radius
    assert all(part.stop > part.start for part in anchors((side, 50), radius))


def test_a_grid_without_pairs_keeps_its_maps():
    maps = drawn(0, 2, 2, 9)
    torch.testing.assert_close(walk(maps, affinities(drawn(1, 1, 3, 2, 9), 1)[:, 0].numpy(), 1, 8.0, 6), maps)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 2), st.integers(3, 9), st.integers(3, 9), st.integers(2, 4))
def test_gradients_are_those_of_the_plain_form(seed, images, height, width, radius):
    own, plain = (drawn(seed, images, 6, height, width).requires_grad_() for _ in range(2))
    rows, columns = anchors((height, width), radius)
    ends = [
        (plain[:, :, rows, columns], plain[:, :, dy : rows.stop + dy, columns.start + dx : columns.stop + dx])
        for dy, dx in directions(radius)
    ]
    expected = torch.exp(-torch.stack([(end - start).abs().mean(dim=1) for start, end in ends]))
    found = affinities(own, radius)
    torch.testing.assert_close(found, expected)
    weights = drawn(seed + 1, *found.shape)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(own.grad, plain.grad)


@pytest.mark.parametrize("label", [0, 3, 255])
def test_a_loss_over_no_pair_is_zero_and_has_a_gradient(label):
    vectors = drawn(0, 1, 4, 12, 12).requires_grad_()
    found = losses(affinities(vectors, 5), kinds_of_pairs(torch.full((1, 12, 12), label, dtype=torch.uint8), 20, 5))
    assert found["negative affinity"] == 0
    assert (found["background affinity"] > 0) == (label == 0) and (found["foreground affinity"] > 0) == (label == 3)
    sum(found.values()).backward()
    assert torch.isfinite(vectors.grad).all()


def test_labels_are_background_that_even_the_weak_one_wins_and_classes_that_beat_the_strong_one():
    strong, weak = torch.tensor([[0.6, 0.3, 0.1, 0.0, 0.6], [0.4, 0.7, 0.9, 0.0, 0.4]]), None
    weak = torch.tensor([[0.2, 0.2, 0.6, 0.0, 0.9], [0.8, 0.8, 0.4, 0.0, 0.1]])
    label = grid_labels(torch.stack([strong, weak])[:, :, None].numpy(), np.array([4]))
    assert label.tolist() == [[255, 5, 0, 255, 0]]  # undecided, trusted, weak background wins, outside, background


def test_cells_at_the_border_are_means_with_zeros():
    assert pooled(torch.ones(1, 12, 17))[0].tolist() == [[1, 1, 0.125], [0.5, 0.5, 0.0625]]
