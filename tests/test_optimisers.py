import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagesets.errors import WrongInput
from training import optimisers

GOLDEN = np.load(Path(__file__).parent / "golden" / "poly_lr.npz")


@pytest.mark.parametrize("case", "abc")
def test_sgd_under_poly_takes_the_published_steps(case):
    base, total = GOLDEN[f"{case}_base_lr"], int(GOLDEN[f"{case}_max_step"])
    parameters = [torch.nn.Parameter(torch.from_numpy(row.copy())) for row in GOLDEN[f"{case}_init"]]
    targets = [torch.from_numpy(row) for row in GOLDEN[f"{case}_target"]]
    groups = [{"params": [p], "lr": float(lr), "weight_decay": 1e-4} for p, lr in zip(parameters, base, strict=True)]
    optimiser, schedule = optimisers.build("sgd", groups, momentum=1e-4), optimisers.poly(total)
    # the published rate stays where it is after the last step; ours trains no step after the last
    for step in range(min(total, len(GOLDEN[f"{case}_lr"]))):
        for group, lr in zip(optimiser.param_groups, base, strict=True):
            group["lr"] = float(lr) * schedule(step)
        np.testing.assert_allclose([group["lr"] for group in optimiser.param_groups], GOLDEN[f"{case}_lr"][step], rtol=1e-6)
        optimiser.zero_grad()
        for parameter, target in zip(parameters, targets, strict=True):
            (0.1 * (parameter - target).square().sum()).backward()
        optimiser.step()
        moved = np.stack([p.detach().numpy() for p in parameters])
        np.testing.assert_allclose(moved, GOLDEN[f"{case}_params"][step], rtol=1e-5)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_weight_decay_does_not_move_a_frozen_parameter(kind):
    frozen, free = torch.nn.Parameter(torch.ones(2), requires_grad=False), torch.nn.Parameter(torch.ones(2))
    optimiser = optimisers.build(kind, [{"params": [frozen, free], "lr": 0.1, "weight_decay": 0.5}])
    frozen.grad = torch.zeros(2)  # as a layer has that was frozen after a step
    free.sum().backward()
    optimiser.step()
    assert (frozen == 1).all() and (free < 1).all()


def test_adam_decays_through_the_gradient_and_adamw_beside_it():
    def after(kind: str) -> float:
        parameter = torch.nn.Parameter(torch.full((1,), 100.0))
        optimiser = optimisers.build(kind, [{"params": [parameter], "lr": 0.1, "weight_decay": 0.01}])
        parameter.grad = torch.full((1,), 1e-3)
        optimiser.step()
        return parameter.item()

    assert after("adam") == pytest.approx(100 - 0.1)  # Adam's step has the length of the rate whatever the decay
    assert after("adamw") == pytest.approx(100 - 100 * 0.1 * 0.01 - 0.1)


@given(st.integers(1, 300), st.floats(0.1, 3))
def test_poly_falls_from_one_to_zero(steps, power):
    factors = [optimisers.poly(steps, power)(step) for step in range(steps + 1)]
    assert factors[0] == 1 and factors[-1] == 0
    assert all(before > after for before, after in itertools.pairwise(factors))


def test_constant_leaves_the_rate():
    assert optimisers.constant(300) == 1.0


def test_steps_of_the_published_trainings():
    assert optimisers.steps(10_582, 16, 5) == 3_305
    assert optimisers.steps(82_783, 16, 5) == 25_865


def test_a_batch_larger_than_the_list_is_refused_with_the_largest_possible():
    with pytest.raises(WrongInput, match="at most 7"):
        optimisers.steps(7, 8, 1)


def test_an_unknown_optimiser_is_refused_with_those_that_exist():
    with pytest.raises(WrongInput, match="sgd, adam and adamw"):
        optimisers.build("lion", [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.1, "weight_decay": 0.0}])
