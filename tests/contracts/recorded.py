"""A training whose heavy parts are recorded beside one whose kernels start one by one."""

from pathlib import Path

import pytest
import torch

from backbones import TokenBackbone, graphs
from backbones.graphs import Graph
from tests.contracts.laboratory import Made, State

NEAR = 0.001  # share of what a training changes in which the two may differ


def change(before: State, after: State) -> torch.Tensor:
    """The change of a network by its training, as one vector."""
    return torch.cat([(after[name].double() - before[name].double()).flatten() for name in before])


def check_recorded(made: Made, device: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in four steps with and without recorded calls; the losses and the weights must be equal within rounding."""
    recorded = []
    monkeypatch.setattr(graphs, "Graph", lambda *call: recorded.append(call) or Graph(*call))
    longer = {name: steps for name in made.job.settings for end, steps in {"epochs": 2, "iterations": 4}.items() if name == end}
    plain, other = (
        made.again(folder / str(wanted), device, changed={**longer, "training.graphs": wanted}) for wanted in (False, True)
    )
    assert recorded or isinstance(made.network().backbone, TokenBackbone), "only tokens are computed as always"
    for row, found in zip(plain.history, other.history, strict=True):
        assert found == pytest.approx(row, rel=1e-3, abs=1e-4)
    own, found = (change(made.initial(), trained.weights) for trained in (plain, other))
    assert (found - own).norm() < NEAR * own.norm()
