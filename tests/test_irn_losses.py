"""What IRNet learns: pair labels, losses and their gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesets.transforms import rescale
from refiners import irn_losses
from refiners.pair_geometry import directions, path
from training import optimisers

GOLDEN = {name: torch.from_numpy(array) for name, array in np.load(Path(__file__).parent / "golden" / "irn_losses.npz").items()}


def golden_maps() -> tuple[torch.Tensor, torch.Tensor]:
    return GOLDEN["edge_logit"].clone().requires_grad_(), GOLDEN["disp"].clone().requires_grad_()


def losses(logits: torch.Tensor, displacement: torch.Tensor) -> dict[str, torch.Tensor]:
    return irn_losses.losses(logits, displacement, GOLDEN["reduced"], classes=20, radius=10)


def test_labels_of_pairs_are_the_golden_ones():
    golden = np.load(Path(__file__).parent / "golden" / "irn_affinity.npz")
    kinds = irn_losses.pairs(torch.from_numpy(golden["seg"])[None], 20, 5)
    for found, name in zip(kinds, ("bg_pos", "fg_pos", "neg"), strict=True):
        assert np.array_equal(found[0].flatten(1), golden[name])


def test_the_label_map_on_the_boundary_grid_is_the_golden_one():
    for label, expected in zip(GOLDEN["label"].numpy(), GOLDEN["reduced"].numpy(), strict=True):
        assert np.array_equal(rescale(label, (32, 32), bicubic=False), expected)


def test_the_four_losses_are_the_golden_ones_and_halved_so_that_they_sum_to_the_total():
    found = losses(*golden_maps())
    torch.testing.assert_close(2 * torch.stack(list(found.values())), GOLDEN["losses"][0], rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.stack(list(found.values())).sum(), GOLDEN["total"][0], rtol=1e-4, atol=0)


def test_gradients_are_the_golden_ones():
    logits, displacement = golden_maps()
    sum(losses(logits, displacement).values()).backward()
    torch.testing.assert_close(logits.grad, GOLDEN["dEdge"], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(displacement.grad, GOLDEN["dDisp"], rtol=1e-3, atol=1e-6)


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
    kinds = irn_losses.pairs(torch.ones((1, 12, 18), dtype=torch.uint8), 20, 5)
    foreground, background = irn_losses.displacement_losses(displacement, kinds, 5)
    assert foreground < 1e-6 and background == 0


def test_a_boundary_between_two_labels_and_none_within_costs_nothing():
    label = torch.zeros((1, 12, 18), dtype=torch.uint8)
    label[..., 9:] = 2
    label[..., 8:10] = 255
    boundary = torch.zeros(1, 12, 18)
    boundary[..., 8:10] = 1
    positive, negative = irn_losses.affinity_losses(boundary, irn_losses.pairs(label, 20, 5), 5)
    assert positive.abs() < 2e-5 and negative.abs() < 2e-5


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_the_losses_are_those_summed_pair_by_pair(seed):
    draw = torch.Generator().manual_seed(seed)
    boundary, field = torch.rand((1, 6, 9), generator=draw), torch.randn((1, 2, 6, 9), generator=draw)
    label = torch.tensor([0, 0, 1, 2, 255], dtype=torch.uint8)[torch.randint(0, 5, (1, 6, 9), generator=draw)]
    terms: dict[str, list[float]] = {"background": [], "foreground": [], "different": [], "apart": [], "still": []}
    for (dy, dx), y, x in ((way, y, x) for way in directions(3) for y in range(4) for x in range(2, 7)):
        first, second = label[0, y, x], label[0, y + dy, x + dx]
        affinity = 1 - max(boundary[0, y + up, x + along] for up, along in path((dy, dx)))
        moved = field[0, :, y, x] - field[0, :, y + dy, x + dx]
        if 255 in (first, second):
            continue
        if first != second:
            terms["different"].append(-torch.log(1 + 1e-5 - affinity))
        else:
            terms["foreground" if first else "background"].append(-torch.log(affinity + 1e-5))
            terms["apart" if first else "still"].append(
                (moved - torch.tensor([dy, dx])).abs().mean() if first else moved.abs().mean()
            )
    mean = {name: sum(values) / (len(values) + 1e-5) for name, values in terms.items()}
    kinds = irn_losses.pairs(label, 20, 3)
    found = [*irn_losses.affinity_losses(boundary, kinds, 3), *irn_losses.displacement_losses(field, kinds, 3)]
    expected = [(mean["background"] + mean["foreground"]) / 2, mean["different"], mean["apart"], mean["still"]]
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected), rtol=1e-4, atol=1e-6)
