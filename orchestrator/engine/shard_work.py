"""Makes the shards of a per-item stage, in any process."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from imagesets.errors import WrongInput
from orchestrator.engine.job import Ask, Job, blaming
from orchestrator.engine.makers import cpu_elsewhere, maker
from orchestrator.engine.spent import Meter, Spent
from orchestrator.engine.taken_over import taken_over
from orchestrator.storage.shards import SUM
from training.memory import kept_memory
from training.stage import Record


def run_shards(
    job: Job, indices: Sequence[int], device: str, ask: Ask = lambda: None, cpus: int = 0
) -> Iterator[tuple[int, Spent]]:
    """Make and write shards; yields the number of items of each and what it took. `ask` is called before every item.

    With `cpus` cores, images go through a pipeline if the stage's function allows it; with 0, everything is done in this thread.
    """
    shards, there = job.shards(), deque[Mapping[str, Record]]()  # by shard: records that other results have

    def left() -> Iterator[Sequence[Any]]:
        for parts in map(shards.__getitem__, indices):
            there.append(taken_over(job, parts))
            yield [part for part in parts if job.name_of(part) not in there[-1]]

    with blaming(job.root), kept_memory():
        meter = Meter(torch.device(device))
        for index, records in zip(indices, _made(job, device, left(), ask, cpus), strict=True):
            job.attempt.write_shard(index, _named(job, shards[index], records, there.popleft()))
            yield len(shards[index]), meter.spent() + Spent(cpu_elsewhere())
            meter = Meter(torch.device(device))


def run_shard(job: Job, index: int, device: str, cpus: int = 0) -> tuple[int, Spent]:
    """Make and write one shard; see `run_shards`."""
    (made,) = run_shards(job, [index], device, cpus=cpus)
    return made


def add(total: dict[str, np.ndarray], record: Mapping[str, np.ndarray]) -> None:
    """Add a record to the sum of earlier ones."""
    for name, array in record.items():
        before = [total[name]] if name in total else []
        total[name] = np.sum([*before, array], axis=0)  # which widens small integers


def _made(job: Job, device: str, shards: Iterator[Sequence[Any]], ask: Ask, cpus: int) -> Iterator[Iterable[Record]]:
    """The records of each of `shards`. No network is loaded as long as there is nothing to make."""
    for shard in shards:
        if shard:
            yield from maker(job, device, cpus).records(chain([shard], shards), ask)
        else:
            yield ()


def _named(job: Job, parts: Sequence[Any], records: Iterable[Record], there: Mapping[str, Record]) -> dict[str, Record]:
    """What a shard holds: the records by name, or what is kept of each and the sum of the rest.

    `records` are those of the parts that are not `there`.
    """
    named, made = dict[str, Record](), iter(records)
    for name in map(job.name_of, parts):
        record = there[name] if name in there else next(made)
        if job.recipe.writes == "maps" and not all(np.isfinite(array).all() for array in record.values()):
            why = "what it reads may be damaged, or from a training that diverged, where a lower learning rate may help"
            raise WrongInput(f"{job.name} makes maps of {name} that are not finite; {why}")
        named[name] = record
        if job.recipe.store == "sum":
            named[name] = {kept: record.pop(kept) for kept in job.recipe.keeps}
            add(named.setdefault(SUM, {}), record)
    return named
