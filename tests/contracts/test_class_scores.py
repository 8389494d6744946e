"""The class scores of every segmenter have the label that its stage predicts as their highest, with and without a CRF."""

import numpy as np
import pytest

from orchestrator.afterwards.segmenter import highest
from orchestrator.engine.context import context
from orchestrator.planning.references import resolve
from tests.contracts.cases import Case, every
from tests.contracts.laboratory import Laboratory

CASES = [case for case in every("map") if case.stage.recipe.writes == "predictions"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_highest_score_is_the_predicted_label(laboratory: Laboratory, case: Case) -> None:
    made = laboratory.made(case)
    scorer = resolve(made.job.recipe.class_scores)(context(made.job, "cpu"))
    for item in made.job.items:
        rgb = item.rgb()
        scores = scorer(rgb)
        assert scores.shape == (len(made.job.classes) + 1, *rgb.shape[:2]) and scores.dtype == np.float32
        assert scores.min() >= 0 and scores.max() <= 1 + 1e-5
        assert np.array_equal(highest(scores), made.records[item.id]["label"])
        assert scores.std(axis=(1, 2)).max() > 0
