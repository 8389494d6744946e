"""The score of maps at every threshold."""

import numpy as np

from benchmarks import threshold_sweep
from benchmarks.published.bench import Bench
from benchmarks.published.rounds import PUBLISHED, Stage, timed
from metrics import thresholds


def sweep(bench: Bench) -> Stage:
    """The confusion matrices at 60 thresholds: one pass over the pixels each, against one pass for all."""
    maps, keys, truth = threshold_sweep.example(2, np.random.default_rng(0), bench.size)
    given = maps, keys, truth
    return Stage(
        1,
        {
            PUBLISHED: timed(lambda: [threshold_sweep.one_pass_per_threshold(*given)]),
            "float32": timed(lambda: [thresholds.sweep(*given, threshold_sweep.GRID, threshold_sweep.CLASSES)]),
        },
    )
