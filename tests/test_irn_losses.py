"""What IRNet learns: pair labels, losses and their gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesets.transforms import rescale
from refiners import irn_losses
from refiners.pair_geometry import anchors, directions, path
from training import optimisers

GOLDEN = {name: torch.from_numpy(array) for name, array in np.load(Path(__file__).parent / "golden" / "irn_losses.npz").items()}


def golden_maps() -> tuple[torch.Tensor, torch.Tensor]:
    return GOLDEN["edge_logit"].clone().requires_grad_(), GOLDEN["disp"].clone().requires_grad_()


def losses(logits: torch.Tensor, displacement: torch.Tensor) -> dict[str, torch.Tensor]:
    return irn_losses.losses(logits, displacement, GOLDEN["reduced"], classes=20, radius=10)


def test_labels_of_pairs_are_the_golden_ones():
    golden = np.load(Path(__file__).parent / "golden" / "irn_affinity.npz")
    label = torch.from_numpy(golden["seg"])[None]
    kinds, inside = irn_losses.pair_kinds(label, 20, 5), anchors(label.shape[1:], 5)
    for kind, name in enumerate(("bg_pos", "fg_pos", "neg"), start=1):
        assert np.array_equal((kinds == kind)[:, 0, *inside].flatten(1), golden[name])
        assert (kinds == kind).sum() == golden[name].sum()


def test_the_label_map_on_the_boundary_grid_is_the_golden_one():
    for label, expected in zip(GOLDEN["label"].numpy(), GOLDEN["reduced"].numpy(), strict=True):
        assert np.array_equal(rescale(label, expected.shape, bicubic=False), expected)


def test_the_four_losses_are_the_golden_ones_and_halved_so_that_they_sum_to_the_total():
    found = losses(*golden_maps())
    torch.testing.assert_close(2 * torch.stack(list(found.values())), GOLDEN["losses"][0], rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.stack(list(found.values())).sum(), GOLDEN["total"][0], rtol=1e-4, atol=0)


def test_gradients_are_the_golden_ones():
    logits, displacement = golden_maps()
    sum(losses(logits, displacement).values()).backward()
    torch.testing.assert_close(logits.grad, GOLDEN["dEdge"], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(displacement.grad, GOLDEN["dDisp"], rtol=1e-3, atol=1e-6)


def test_losses_and_gradients_of_the_hfpl_family_s_copy_are_the_golden_ones():
    golden = np.load(Path(__file__).parent / "golden" / "irn.npz")
    maps = [torch.from_numpy(golden[name]).requires_grad_() for name in ("train_edge_logits", "train_disp")]
    radius = int(golden["radius"])
    found = irn_losses.losses(*maps, torch.from_numpy(golden["train_seg"]), 20, radius)
    expected = [golden[f"loss_{name}"] / 2 for name in ("pos", "neg", "dp_fg", "dp_bg")]
    np.testing.assert_allclose([loss.item() for loss in found.values()], expected, rtol=1e-5)
    total = sum(found.values())
    np.testing.assert_allclose(total.item(), golden["loss_total"], rtol=1e-5)
    total.backward()
    for own, name in zip(maps, ("grad_edge", "grad_disp"), strict=True):
        np.testing.assert_allclose(own.grad, golden[name], rtol=1e-4, atol=1e-4 * np.abs(golden[name]).max())


def test_three_steps_of_the_optimiser_give_the_golden_maps_and_mean_displacement():
    logits, displacement = golden_maps()
    groups = [{"params": [tensor], "lr": rate, "weight_decay": 1e-4} for tensor, rate in ((logits, 20.0), (displacement, 200.0))]
    optimiser, schedule = optimisers.build("sgd", groups, momentum=1e-4), optimisers.poly(3)
    for step in range(3):
        for group, rate in zip(optimiser.param_groups, (20.0, 200.0), strict=True):
            group["lr"] = rate * schedule(step)
        optimiser.zero_grad()
        sum(losses(logits, displacement).values()).backward()
        optimiser.step()
    torch.testing.assert_close(logits.detach(), GOLDEN["edge_after3"], rtol=0, atol=1e-3)
    torch.testing.assert_close(displacement.detach(), GOLDEN["disp_after3"], rtol=0, atol=1e-3)
    torch.testing.assert_close(displacement.detach().mean(dim=(0, 2, 3)), GOLDEN["disp_mean"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("label", [0, 3, 255])
def test_a_term_over_an_empty_set_is_zero_and_has_a_gradient(label):
    logits, displacement = torch.zeros(1, 1, 12, 18, requires_grad=True), torch.zeros(1, 2, 12, 18, requires_grad=True)
    found = irn_losses.losses(logits, displacement, torch.full((1, 12, 18), label, dtype=torch.uint8), 20, 5)
    assert found["negative affinity"] == 0
    assert (found["displacement foreground"] > 0) == (label == 3)
    assert (found["positive affinity"] > 0) == (label != 255)
    sum(found.values()).backward()
    assert torch.isfinite(logits.grad).all() and torch.isfinite(displacement.grad).all()


def test_displacements_to_one_centre_cost_nothing():
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(18.0), indexing="ij")
    displacement = torch.stack([5 - rows, 9 - columns])[None]
    label = torch.ones((1, 12, 18), dtype=torch.uint8)
    found = irn_losses.losses(torch.zeros(1, 1, 12, 18), displacement, label, 20, 5)
    assert found["displacement foreground"] == 0 and found["displacement background"] == 0


def test_a_boundary_between_two_labels_and_none_within_costs_nothing():
    label = torch.zeros((1, 12, 18), dtype=torch.uint8)
    label[..., 9:] = 2
    label[..., 8:10] = 255
    logits = torch.full((1, 1, 12, 18), -100.0)
    logits[..., 8:10] = 100
    found = irn_losses.losses(logits, torch.zeros(1, 2, 12, 18), label, 20, 5)
    assert found["positive affinity"].abs() < 2e-5 and found["negative affinity"].abs() < 2e-5


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_the_gradient_of_an_affinity_reaches_the_highest_boundary_alone(seed):
    affinity = torch.rand((2, 6, 9), generator=torch.Generator().manual_seed(seed))
    kinds = irn_losses.pair_kinds(torch.ones((2, 6, 9), dtype=torch.uint8), 20, 3)
    expected = torch.zeros(2, 6, 9)
    for image, (dy, dx), y, x in (
        (k, way, y, x) for k in range(2) for way in directions(3) for y in range(4) for x in range(2, 7)
    ):
        lowest = min(path((dy, dx)), key=lambda cell: affinity[image, y + cell[0], x + cell[1]].item())
        expected[image, y + lowest[0], x + lowest[1]] += 1
    assert torch.equal(irn_losses.lowest_cells(affinity, kinds, 3)[1], expected)


def test_a_batch_at_once_has_the_numbers_of_its_images_one_by_one():
    logits, field = (values.detach() for values in golden_maps())
    labels, affinity = GOLDEN["reduced"], logits[:, 0]
    one_by_one = irn_losses.pair_numbers(affinity, field, labels, 20, 10)
    kinds = irn_losses.pair_kinds(labels, 20, 10)
    assert len(labels) > 1 and torch.equal(irn_losses.lowest_cells(affinity, kinds, 10), one_by_one[0])
    assert torch.equal(irn_losses.net_signs(field, (kinds == 1) | (kinds == 2), 10), one_by_one[1])


@settings(max_examples=4)
@given(st.integers(0, 10_000))
def test_the_losses_and_gradients_are_those_summed_pair_by_pair(seed):
    draw = torch.Generator().manual_seed(seed)
    logits, field = torch.randn((2, 1, 6, 9), generator=draw), torch.randn((2, 2, 6, 9), generator=draw)
    label = torch.tensor([0, 0, 1, 2, 255], dtype=torch.uint8)[torch.randint(0, 5, (2, 6, 9), generator=draw)]
    for one in (logits, field):
        one.requires_grad_()
    expected = pair_by_pair(torch.sigmoid(logits[:, 0]), field, label, 3)
    found = torch.stack(list(irn_losses.losses(logits, field, label, 20, 3).values()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for weights in torch.eye(4):
        own, theirs = (
            torch.autograd.grad(given @ weights, (logits, field), retain_graph=True, allow_unused=True, materialize_grads=True)
            for given in (found, expected)
        )
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)


def pair_by_pair(boundary: torch.Tensor, field: torch.Tensor, label: torch.Tensor, radius: int) -> torch.Tensor:
    """The four losses as the paper states them, halved."""
    terms: dict[str, list[torch.Tensor]] = {"background": [], "foreground": [], "different": [], "apart": [], "still": []}
    reach, (images, height, width) = radius - 1, label.shape
    pairs = np.ndindex(images, len(directions(radius)), height - reach, width - 2 * reach)
    for image, way, y, x in ((image, directions(radius)[way], y, x + reach) for image, way, y, x in pairs):
        first, second = label[image, y, x], label[image, y + way[0], x + way[1]]
        if 255 in (first, second):
            continue
        affinity = 1 - max(boundary[image, y + up, x + along] for up, along in path(way))
        moved = field[image, :, y, x] - field[image, :, y + way[0], x + way[1]]
        if first != second:
            terms["different"].append(-torch.log(1 + 1e-5 - affinity))
        else:
            terms["foreground" if first else "background"].append(-torch.log(affinity + 1e-5))
            terms["apart" if first else "still"].append((moved - torch.tensor(way) * (first > 0)).abs().mean())
    mean = {name: sum(values, torch.zeros(())) / (len(values) + 1e-5) for name, values in terms.items()}
    equal = (mean["background"] + mean["foreground"]) / 2
    return torch.stack([equal, mean["different"], mean["apart"], mean["still"]]) / 2
