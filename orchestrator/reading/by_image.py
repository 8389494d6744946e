"""What the store keeps of each image that a row of results scores: the image's own score, and which class was taken for which."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from orchestrator.planning import scores
from orchestrator.planning.references import resolve
from orchestrator.reading.resampling import AT_ONCE
from orchestrator.storage.shards import StoredRecords
from orchestrator.storage.store import Store, read_manifest

T = TypeVar("T")


def scores_of_images(row: Mapping[str, Any], store: Store, classes: Sequence[str]) -> dict[str, float]:
    """The main metric of each image by id, as if the image were the whole list; without images in which it is undefined.

    Empty if the kept arrays are no longer in the store.
    """
    name = scores.main(row["quantity"])
    calls = {recipe.name: part.resampled for recipe, part in scores.stages(row["quantity"]) if name in recipe.metrics}
    found: dict[str, float] = {}
    for evaluation in row["evaluations"]:
        folder = _folder(evaluation, store)
        if calls.get(evaluation["recipe"]) and read_manifest(folder) is not None:
            records, resampled = StoredRecords(folder), resolve(calls[evaluation["recipe"]])
            for part in _batches(zip(records, records.in_order(), strict=True), AT_ONCE):
                values = resampled(row["protocol"], classes, [record for _, record in part])(np.eye(len(part)))[name]
                found |= {id: float(value) for (id, _), value in zip(part, values, strict=True) if not np.isnan(value)}
    return found


def confusion(rows: Iterable[Mapping[str, Any]], store: Store, classes: Sequence[str]) -> np.ndarray | None:
    """The confusion matrix int64 [K+1,K+1] (rows truth) summed over `rows`, which are one score of several runs.

    None if the score has no such matrix or a run's kept arrays are no longer in the store.
    """
    total: np.ndarray | None = None
    for row in rows:
        if (matrix := _matrix(row, store, classes)) is None:
            return None
        total = matrix if total is None else total + matrix
    return total


def _matrix(row: Mapping[str, Any], store: Store, classes: Sequence[str]) -> np.ndarray | None:
    calls = {recipe.name: part.confusion for recipe, part in scores.stages(row["quantity"]) if part.confusion}
    for evaluation in row["evaluations"]:
        folder = _folder(evaluation, store)
        if evaluation["recipe"] in calls and read_manifest(folder) is not None:
            return resolve(calls[evaluation["recipe"]])(classes, StoredRecords(folder).in_order())
    return None


def _batches(of: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(of, size)):
        yield batch


def _folder(evaluation: Mapping[str, Any], store: Store) -> Any:
    return store.folder(evaluation["stage"], evaluation["key"])
