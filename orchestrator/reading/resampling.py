"""How much a difference between two results depends on the images: a paired bootstrap over images.

Many lists are drawn from the list with repetition; each scores both results on the same images (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13: percentile intervals).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.planning import scores
from orchestrator.planning.references import resolve
from orchestrator.reading.summary import Row
from orchestrator.storage.shards import StoredRecords
from orchestrator.storage.store import Store, read_manifest
from training.randomness import generator

DRAWS, AT_ONCE = 1000, 50  # draws, and draws in memory at a time
LEVEL = 0.95

Interval = tuple[float, float]
Resample = Callable[[np.ndarray], dict[str, np.ndarray]]


def intervals(row: Row, other: Row, store: Store, classes: Sequence[str]) -> dict[str, Interval] | None:
    """The interval, by metric, of the mean difference `row` - `other` over the common random seeds.

    Both must have the same images. None if the kept arrays of the images are no longer in the store.
    """
    seeds = sorted(row.runs.keys() & other.runs.keys())
    pairs = [(_resample(row.runs[seed], store, classes), _resample(other.runs[seed], store, classes)) for seed in seeds]
    if not pairs or any(resample is None for pair in pairs for resample in pair):
        return None
    found: dict[str, list[np.ndarray]] = {}
    for weights in _draws(row.about["protocol"]["images"]):
        for name, values in _mean_difference(pairs, weights).items():
            found.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in found.items()}
    return {name: _interval(values) for name, values in joined.items() if not np.isnan(values).all()}


def _draws(images: int) -> Iterator[np.ndarray]:
    """Weights [B,n]: how often each image occurs in each of B lists of n images; the same weights for the same n."""
    rng = generator("bootstrap", images)
    for _ in range(DRAWS // AT_ONCE):
        yield rng.multinomial(images, np.full(images, 1 / images), AT_ONCE)


def _mean_difference(pairs: Sequence[tuple[Any, Any]], weights: np.ndarray) -> dict[str, np.ndarray]:
    scored = [(one(weights), other(weights)) for one, other in pairs]
    names = set.intersection(*(values.keys() & others.keys() for values, others in scored))
    return {name: np.mean([values[name] - others[name] for values, others in scored], axis=0) for name in names}


def _interval(values: np.ndarray) -> Interval:
    """The central interval of the values, without draws in which the score is undefined."""
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resample(row: Mapping[str, Any], store: Store, classes: Sequence[str]) -> Resample | None:
    """The function from weights [B,n] to the metrics [B] of a row, for all its score recipes together.

    None if the kept arrays of the images are no longer in the store.
    """
    calls = {recipe.name: part.resampled for recipe, part in scores.stages(row["quantity"])}
    made = []
    for evaluation in row["evaluations"]:
        folder = store.folder(evaluation["stage"], evaluation["key"])
        if read_manifest(folder) is None:
            return None
        if call := calls.get(evaluation["recipe"]):
            made.append(resolve(call)(row["protocol"], classes, StoredRecords(folder).in_order()))
    return lambda weights: {name: values for resample in made for name, values in resample(weights).items()}
