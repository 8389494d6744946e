"""The dense CRF: on a prediction, and as confident labels."""

import numpy as np
from pydensecrf.utils import unary_from_softmax

from benchmarks import crf_labels
from benchmarks.published.bench import CLASSES, Bench
from benchmarks.published.rounds import PUBLISHED, Stage, timed
from orchestrator.planning.recipes import load_all
from refiners import crf

PARAMETERS = crf.Parameters(**load_all()["crf"].table["deeplab"])


def labels(bench: Bench) -> Stage:
    """Confident labels of maps at two thresholds, which both forms refine by pydensecrf."""
    given = crf_labels.example(1, bench.size)
    forms = {PUBLISHED: timed(lambda: [crf_labels.published(*given)]), "float32": timed(lambda: [crf_labels.ours(*given)])}
    return Stage(1, forms)


def predictions(bench: Bench) -> Stage:
    """The CRF of a prediction of 21 labels."""
    rgb, maps, keys = crf_labels.example(1, bench.size)
    scores = np.full((len(CLASSES) + 1, *bench.size), 0.01, np.float32)
    scores[0], scores[keys + 1] = 0.4, maps
    scores /= scores.sum(axis=0)

    def published() -> list[np.ndarray]:
        return [crf_labels.whole_crf(rgb, unary_from_softmax(scores), PARAMETERS)]

    return Stage(1, {PUBLISHED: timed(published), "float32": timed(lambda: [crf.soft(rgb, scores, PARAMETERS)])})
