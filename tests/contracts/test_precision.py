"""Tests for every stage that runs a network: bfloat16 is honoured, and what it makes stays near float32."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from backbones.precision import MixedPrecision
from tests.contracts.cases import Case, every
from tests.contracts.laboratory import Laboratory, Made

IN_BFLOAT16 = {"training.precision": "bfloat16", "extraction.precision": "bfloat16"}


def reads_a_network(case: Case) -> bool:
    return any(source.recipe.network for source in case.stage.inputs.values())


@pytest.mark.parametrize("case", every("train"), ids=lambda case: case.name)
def test_a_training_in_bfloat16_stays_near_float32(laboratory: Laboratory, case: Case, tmp_path: Path) -> None:
    made = laboratory.made(case)
    trained = made.again(tmp_path, changed=IN_BFLOAT16)
    assert {name: values.dtype for name, values in trained.weights.items()} == {
        name: values.dtype for name, values in made.weights.items()
    }
    assert trained.history != made.history, "the forward pass was not in bfloat16"
    for name, loss in made.history[0].items():
        assert trained.history[0][name] == pytest.approx(loss, rel=0.05, abs=0.02), name


@pytest.mark.parametrize("case", filter(reads_a_network, every("map")), ids=lambda case: case.name)
def test_an_extraction_in_bfloat16_stays_near_float32(laboratory: Laboratory, case: Case) -> None:
    check_extraction(laboratory.made(case))


def check_extraction(made: Made, device: str = "cpu") -> None:
    """In bfloat16 the networks of a stage compute in it on a device, and what the stage makes is near."""
    seen, computed = [], MixedPrecision.computed

    def watched(self: MixedPrecision, *given: Any) -> Any:
        seen.append(self.precision)
        return computed(self, *given)

    with patch.object(MixedPrecision, "computed", watched):
        one = Made(replace(made.job, settings={**made.job.settings, **IN_BFLOAT16})).one(device)
        found = {made.job.name_of(part): one(part) for part in made.job.parts()}
    assert set(seen) == {torch.bfloat16}
    check_near(found, made.arrays)


def check_near(found: Mapping[str, Mapping[str, Any]], expected: Mapping[str, Mapping[str, Any]]) -> None:
    """Over all records, numbers differ by a small part of their norm, and few labels differ: tiny trainings know little."""
    for name in dict.fromkeys(name for arrays in expected.values() for name in arrays):
        own, other = (
            np.concatenate([np.ravel(arrays[name]) for arrays in records.values() if name in arrays])
            for records in (found, expected)
        )
        if np.issubdtype(other.dtype, np.floating):
            assert np.linalg.norm(own.astype(float) - other) <= 0.2 * np.linalg.norm(other.astype(float)), name
        else:
            assert (own == other).mean() > 0.95, name
