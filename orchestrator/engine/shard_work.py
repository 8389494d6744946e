"""Makes one shard of a per-item stage, in any process."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from orchestrator.engine.context import context
from orchestrator.engine.job import Ask, Job, blaming
from orchestrator.engine.spent import Meter, Spent
from orchestrator.planning.references import resolve
from orchestrator.storage.shards import SUM
from training.threads import set_threads


def run_shard(job: Job, index: int, device: str, ask: Ask = lambda: None) -> tuple[int, Spent]:
    """Make and write one shard; returns the number of its items and what it took. `ask` is called before every item."""
    meter = Meter(torch.device(device))
    with blaming(job.root):
        one, parts = _prepared(job, device), job.shards()[index]
        records: dict[str, dict[str, np.ndarray]] = {}
        for part in parts:
            ask()
            name = job.name_of(part)
            try:
                record = one(part)
            except Exception as error:
                error.add_note(f"{job.name} failed on {name}")
                raise
            if job.recipe.store == "sum":
                records[name] = {kept: record.pop(kept) for kept in job.recipe.keeps}
                add(records.setdefault(SUM, {}), record)
            else:
                records[name] = record
        job.attempt.write_shard(index, records)
    return len(parts), meter.spent()


def add(total: dict[str, np.ndarray], record: Mapping[str, np.ndarray]) -> None:
    """Add a record to the sum of earlier ones."""
    for name, array in record.items():
        before = [total[name]] if name in total else []
        total[name] = np.sum([*before, array], axis=0)  # which widens small integers


def forget() -> None:
    """Free the networks that this process keeps loaded between shards."""
    _prepared.cache_clear()


@lru_cache(maxsize=2)  # two stages may alternate in one process
def _prepared(job: Job, device: str) -> Callable[[Any], dict[str, np.ndarray]]:
    """The stage's function of one item, with its networks loaded; kept for the next shard."""
    set_threads(job.settings.get("extraction.threads", 1))
    return resolve(job.recipe.call)(context(job, device))
