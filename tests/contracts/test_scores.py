"""Tests for every score: it has the metrics that its recipe declares, and weights of 1 give the scores of the list."""

import json
import math

import numpy as np
import pytest

from orchestrator.planning import scores as declared
from orchestrator.planning.references import resolve
from tests.contracts.cases import Case, scores
from tests.contracts.laboratory import Laboratory, Made, check_alike


@pytest.fixture(params=scores(), ids=lambda case: f"{case.name} {case.stage.purpose}")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_every_score_recipe_is_among_the_cases() -> None:
    tried = {case.stage.purpose.partition("-")[0] for case in scores()}
    assert tried == {recipe.name for recipe in declared.recipes()}


def test_its_metrics_are_declared_and_numbers_and_its_result_is_json(made: Made) -> None:
    metrics = made.result["metrics"]
    assert metrics and set(metrics) <= set(declared.metrics([made.job.recipe.name]))
    assert json.loads(json.dumps(made.result)) == made.result
    assert all(value is None or math.isfinite(value) for value in metrics.values()), metrics


def test_all_images_once_are_the_list_and_one_image_ten_times_is_that_image(made: Made) -> None:
    job = made.job
    sample = resolve(job.recipe.resampled)(made.result["protocol"], job.classes, made.arrays.in_order())
    count = len(job.items)
    whole = sample(np.ones((1, count)))
    for name, value in made.result["metrics"].items():
        assert value is None or whole[name] == pytest.approx([value]), name
    weights = np.eye(count)
    for name, values in sample(10 * weights).items():
        np.testing.assert_allclose(values, sample(weights)[name], err_msg=name)


@pytest.mark.parametrize("of_network", [case for case in scores() if "network" in case.stage.inputs], ids=lambda case: case.name)
def test_one_of_a_network_counts_in_a_pipeline_what_it_counts_image_by_image(laboratory: Laboratory, of_network: Case) -> None:
    made = laboratory.made(of_network)
    one = made.one()
    for item, found in zip(made.job.parts(), made.pipelined("cpu", batch=4), strict=True):
        check_alike(found, one(item))
