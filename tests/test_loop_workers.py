"""The training loop in two processes: each has its share of every batch; together they do what one process does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import two_workers
from tests.two_workers import BATCH, STEPS
from training.run import synchronise


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all trainings."""
    folder = tmp_path_factory.mktemp("workers")
    two_workers.run_all(folder)
    return folder


def told(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"{rank}.json").read_text())


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"{rank}.pt", weights_only=True)


def test_each_image_of_a_batch_is_seen_by_one_worker(trained: Path) -> None:
    alone = told(trained / "one")["seen"]
    for batch, *shares in zip(alone, *(told(trained / "two", rank)["seen"] for rank in (0, 1)), strict=True):
        assert all(len(share) == BATCH // 2 for share in shares)
        assert sorted(shares[0] + shares[1]) == sorted(batch)


def test_dropout_draws_anew_in_each_step_and_worker(trained: Path) -> None:
    drawn = [number for rank in (0, 1) for number in told(trained / "two", rank)["noise"]]
    assert len(set(drawn)) == 2 * STEPS


@pytest.mark.parametrize("how", ["two", "parts"])
def test_together_they_make_the_steps_of_one_worker_where_losses_are_plain_means(trained: Path, how: str) -> None:
    expected, initial = weights(trained / "one"), two_workers.Objective
    for rank in (0, 1):
        for name, values in weights(trained / how, rank).items():
            torch.testing.assert_close(values, expected[name], msg=f"{name} of worker {rank}")
    torch.manual_seed(0)
    fresh = initial().state_dict()
    moved = {name.split(".")[0] for name in fresh if not torch.equal(fresh[name], expected[name])}
    assert moved == {"network", "ahead", "behind"}


def test_a_loss_is_averaged_over_the_steps_and_workers_that_had_it(trained: Path) -> None:
    alone, shared = told(trained / "one")["history"], told(trained / "two")["history"]
    assert [sorted(row) for row in shared] == [["early", "epoch", "fit", "rare"], ["epoch", "fit", "late", "rare"]]
    assert all(row["rare"] == 1 for row in shared)
    for one, two in zip(alone, shared, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert told(trained / "two", 1)["history"] == shared


def test_stopped_and_resumed_they_end_bit_equal(trained: Path) -> None:
    expected = weights(trained / "two")
    assert all(torch.equal(values, expected[name]) for name, values in weights(trained / "halted").items())
    assert told(trained / "halted")["history"] == told(trained / "two")["history"]
    assert len(told(trained / "halted", 1)["seen"]) == STEPS - 5


def test_batch_norms_see_the_whole_batch_on_gpus_and_each_worker_s_share_on_cpus() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4).eval()))
    before, names = list(network.parameters()), list(network.state_dict())
    synchronise(network, torch.device("cpu"))
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    synchronise(network, torch.device("cuda"))
    norms = [module for module in network.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert [norm.training for norm in norms] == [True, False]  # fixed statistics stay fixed
    assert list(network.state_dict()) == names
    assert all(own is other for own, other in zip(network.parameters(), before, strict=True))  # the optimiser holds them
