"""Every per-image stage that may be a pipeline makes in it what it makes image by image."""

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.engine.pipeline import Pipeline
from tests.contracts.cases import every
from tests.contracts.laboratory import Laboratory, Made, same
from tests.contracts.test_gpu import check_alike, device, reads_a_network  # noqa: F401 (a fixture)
from training.stage import PerImage

CASES = [case for case in every("map") if reads_a_network(case) and case.stage.recipe.over == "images"]
SINGLE = {"advcam-maps"}  # their function is one step


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def made(request: pytest.FixtureRequest, laboratory: Laboratory) -> Made:
    """The stage, made image by image on the CPU."""
    return laboratory.made(request.param)


def records(made: Made, batch: int, where: str = "cpu") -> Iterator[tuple[Any, Any]]:
    """The records of a pipeline beside those that were made image by image."""
    one = made.one(where)
    if not isinstance(one, PerImage):
        pytest.skip("its function is one step")
    pipeline = Pipeline(made.job.name, one, cpus=2, batch=batch)
    try:
        (found,) = pipeline.records([made.job.parts()])
    finally:
        pipeline.close()
    return zip(found, (made.arrays[item.id] for item in made.job.parts()), strict=True)


def test_with_batches_of_one_it_makes_the_same_bits(made: Made) -> None:
    assert all(same(found, expected) for found, expected in records(made, batch=1))


def test_with_larger_batches_it_makes_the_same_within_rounding(made: Made) -> None:
    for found, expected in records(made, batch=4):
        check_alike(found, expected)


@pytest.mark.gpu
def test_on_a_gpu_it_makes_what_the_cpu_makes(device: str, made: Made) -> None:  # noqa: F811
    for found, expected in records(made, batch=4, where=device):
        check_alike(found, expected)


def test_every_stage_with_a_network_may_be_a_pipeline(laboratory: Laboratory) -> None:
    assert {case.stage.name for case in CASES if not isinstance(laboratory.made(case).one(), PerImage)} == SINGLE
