"""Records of a per-image stage that results over other lists have, so that they are not computed once more."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from orchestrator.engine.job import Job
from orchestrator.storage.result import Result
from orchestrator.storage.shards import StoredRecords


def taken_over(job: Job, parts: Sequence[Any]) -> dict[str, dict[str, np.ndarray]]:
    """The records of some parts that the job's siblings have, by name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for records in _opened(job.siblings):
        left = [name for name in map(job.name_of, parts) if name not in found]
        found |= {name: record for name in left if (record := records.get(name)) is not None}
    return found


@lru_cache(maxsize=2)  # two stages may alternate in one process
def _opened(results: tuple[Result, ...]) -> list[StoredRecords]:
    """The records of finished results, without what this machine has of other results in their folders."""
    for result in results:
        result.settle()
    return [StoredRecords(result.folder) for result in results]
