"""Every per-image stage that may be a pipeline makes in it what it makes image by image."""

from dataclasses import replace

import pytest

from tests.contracts.laboratory import Laboratory, Made, same
from tests.contracts.test_gpu import PIPELINED, check_alike


@pytest.fixture(params=PIPELINED, ids=lambda case: case.name)
def made(request: pytest.FixtureRequest, laboratory: Laboratory) -> Made:
    """The stage, made image by image."""
    return laboratory.made(request.param)


def test_with_batches_of_one_it_makes_the_same_bits(made: Made) -> None:
    for item, found in zip(made.job.parts(), made.pipelined("cpu", batch=1), strict=True):
        assert same(found, made.arrays[item.id])


def test_with_larger_batches_it_makes_the_same_within_rounding(made: Made) -> None:
    for item, found in zip(made.job.parts(), made.pipelined("cpu", batch=4), strict=True):
        check_alike(found, made.arrays[item.id])


def test_a_recipe_says_whether_a_stage_takes_many_cores(made: Made) -> None:
    assert made.job.takes_cores() == made.one().processes
    assert not replace(made.job, settings={**made.job.settings, **made.job.recipe.cores_unless}).takes_cores()
