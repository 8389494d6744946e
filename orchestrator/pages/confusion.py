"""Confusion matrices of scores, as tables of a page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.reading.by_image import confusion
from orchestrator.storage.store import Store

# a title, one score's row in the results of each of its runs, and the foreground classes
Scored = tuple[str, Sequence[Mapping[str, Any]], Sequence[str]]


def matrices(scored: Iterable[Scored], store: Store) -> list[dict[str, Any]]:
    """A table for each score whose counts are still in the store: rows of percentages, which add up to 100.

    A class that no mask has is left out of the rows.
    """
    return [
        {"title": title, "quantity": rows[0]["quantity"], "names": ["background", *classes], "rows": _shares(found, classes)}
        for title, rows, classes in scored
        if (found := confusion(rows, store, classes)) is not None
    ]


def _shares(matrix: np.ndarray, classes: Sequence[str]) -> list[tuple[str, list[float]]]:
    return [
        (name, (100 * row / row.sum()).tolist()) for name, row in zip(["background", *classes], matrix, strict=True) if row.sum()
    ]
