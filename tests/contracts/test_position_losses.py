"""ISL and FSL on every network: HFPL's claim is that they can be added to virtually any method."""

import pytest

from orchestrator.planning.components import Component
from tests.contracts.cases import SEGMENTER, Case, components, plan
from tests.contracts.laboratory import Laboratory

HOSTS = [recipe.name for recipe in components() if Component(recipe).trains_a_network]
LOSSES = {"isl": "importance_sampling", "fsl": "feature_similarity"}


@pytest.mark.parametrize("host", HOSTS)
def test_both_can_be_added_to_it(host: str) -> None:
    assert {name for stage in plan(f"{host}+isl+fsl", SEGMENTER) if stage.component == host for name in stage.add_ons} == {
        *LOSSES
    }


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
def test_it_trains_with_both(laboratory: Laboratory, host: str) -> None:
    expression, further = f"{host}+isl+fsl", ("fsl.gating=b",)  # r is 0 where a drawn network's scores are all negative
    for stage in plan(expression, SEGMENTER, further=further):
        if stage.component == host and stage.add_ons:
            (row,) = laboratory.made(Case(host, expression, SEGMENTER, stage, further)).history
            assert {LOSSES[name] for name in stage.add_ons} <= row.keys()
            assert all(abs(row[LOSSES[name]]) < 10 for name in stage.add_ons) and row["feature_similarity"] != 0
