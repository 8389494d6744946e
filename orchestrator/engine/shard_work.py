"""The work on one shard of a per-item stage, in whichever process it is done."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from orchestrator.engine.context import context
from orchestrator.engine.job import Job, blaming, resolve
from orchestrator.engine.spent import Meter, Spent
from orchestrator.storage.shards import SUM, shard_path, write_shard
from training.loop import set_threads


def run_shard(job: Job, index: int, device: str, ask: Callable[[], None] = lambda: None) -> tuple[int, Spent]:
    """Do one shard of a per-item stage and write it; the number of its items. `ask` is called before every item."""
    with blaming(job.root):
        return _run_shard(job, index, device, ask)


def _run_shard(job: Job, index: int, device: str, ask: Callable[[], None]) -> tuple[int, Spent]:
    meter = Meter(torch.device(device))
    one = _prepared(job, device)
    parts = job.shards()[index]
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
    job.attempt.check()
    write_shard(shard_path(job.folder, index), records, job.attempt.made_from)
    return len(parts), meter.spent()


def add(total: dict[str, np.ndarray], record: Mapping[str, np.ndarray]) -> None:
    """Add a record to the sum of those before it."""
    for name, array in record.items():
        before = [total[name]] if name in total else []
        total[name] = np.sum([*before, array], axis=0)  # which widens small integers


def forget() -> None:
    """Let go of the networks that this process did its last shards with."""
    _prepared.cache_clear()


@lru_cache(maxsize=2)  # two stages may take turns in one process
def _prepared(job: Job, device: str) -> Callable[[Any], dict[str, np.ndarray]]:
    """The stage's function of one item, with its networks loaded; kept while a process does shards of one stage."""
    job.settle()
    set_threads(job.settings.get("extraction.threads", 1))
    return resolve(job.recipe.call)(context(job, device))
