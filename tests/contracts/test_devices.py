"""Tests for all tensors of a stage lying on one device; they need no GPU."""

from pathlib import Path

import pytest
import torch

from tests.contracts.cases import Case, every
from tests.contracts.laboratory import Laboratory, check_alike
from tests.contracts.recorded import NEAR, change
from tests.contracts.test_precision import reads_a_network
from tests.pretended_gpu import NAME, OnGPU, pretended_gpu
from training.stage import PerImage

pytestmark = pytest.mark.slow


def test_mixing_devices_fails_as_on_a_gpu() -> None:
    with pretended_gpu():
        here, there = torch.ones(2), torch.ones(2, device=NAME)
        assert isinstance(there + 1, OnGPU) and not isinstance(there.cpu(), OnGPU)
        for wrong in (lambda: here + there, lambda: there[[0]].add_(here[:1]), lambda: here[there > 0], there.numpy):
            with pytest.raises((RuntimeError, TypeError), match="device"):
                wrong()


@pytest.mark.parametrize("case", every("train"), ids=lambda case: case.name)
def test_a_training_keeps_to_its_device(laboratory: Laboratory, case: Case, tmp_path: Path) -> None:
    made = laboratory.made(case)
    with pretended_gpu() as device:
        trained = made.again(tmp_path, device)
        weights = trained.weights
    assert any(isinstance(values, OnGPU) for values in trained.training.network.state_dict().values())
    own, found = (change(made.initial(), state) for state in (made.weights, weights))
    assert (found - own).norm() < NEAR * own.norm()


@pytest.mark.parametrize("case", filter(reads_a_network, every("map")), ids=lambda case: case.name)
def test_a_per_image_stage_keeps_to_its_device(laboratory: Laboratory, case: Case) -> None:
    made = laboratory.made(case)
    parts = list(made.job.parts())
    with pretended_gpu() as device:
        one = made.one(device)
        records = made.pipelined(device, batch=2) if isinstance(one, PerImage) else map(one, parts)
        for part, record in zip(parts, records, strict=True):
            check_alike(record, made.arrays[made.job.name_of(part)])
