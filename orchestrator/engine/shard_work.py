"""Makes the shards of a per-item stage, in any process."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from orchestrator.engine.context import context
from orchestrator.engine.job import Ask, Job, blaming, naming
from orchestrator.engine.pipeline import Pipeline
from orchestrator.engine.spent import Meter, Spent
from orchestrator.planning.references import resolve
from orchestrator.storage.shards import SUM
from training.stage import PerImage, Record
from training.threads import set_threads

BATCH = 8  # images that a GPU computes at once, at most
IMAGE = 4e9  # bytes of a GPU's memory for each of them
KEPT = 2  # stages that may alternate in one process

Maker = Pipeline | Callable[[Any], Record]  # makes the records of a stage
_kept: dict[tuple[Job, str, int], Maker] = {}  # with their networks loaded


def run_shards(
    job: Job, indices: Iterable[int], device: str, ask: Ask = lambda: None, cpus: int = 0
) -> Iterator[tuple[int, Spent]]:
    """Make and write shards; yields the number of items of each and what it took. `ask` is called before every item.

    With `cpus` cores, images go through a pipeline if the stage's function allows it; with 0, everything is done in this thread.
    """
    with blaming(job.root):
        meter, indices, shards = Meter(torch.device(device)), list(indices), job.shards()
        maker = _maker(job, device, cpus)
        wanted = (shards[index] for index in indices)
        made = maker.records(wanted, ask) if isinstance(maker, Pipeline) else _one_by_one(job, maker, wanted, ask)
        for index, records in zip(indices, made, strict=True):
            job.attempt.write_shard(index, _named(job, shards[index], records))
            elsewhere = maker.finishing.cpu() if isinstance(maker, Pipeline) else 0.0
            yield len(shards[index]), meter.spent() + Spent(elsewhere)
            meter = Meter(torch.device(device))


def run_shard(job: Job, index: int, device: str, ask: Ask = lambda: None, cpus: int = 0) -> tuple[int, Spent]:
    """Make and write one shard; see `run_shards`."""
    (made,) = run_shards(job, [index], device, ask, cpus)
    return made


def add(total: dict[str, np.ndarray], record: Mapping[str, np.ndarray]) -> None:
    """Add a record to the sum of earlier ones."""
    for name, array in record.items():
        before = [total[name]] if name in total else []
        total[name] = np.sum([*before, array], axis=0)  # which widens small integers


def forget() -> None:
    """Free the networks that this process keeps loaded between shards, and end the threads and processes beside them."""
    while _kept:
        _, maker = _kept.popitem()
        if isinstance(maker, Pipeline):
            maker.close()


def _maker(job: Job, device: str, cpus: int) -> Maker:
    """What makes the stage's records, with its networks loaded; kept for the next shard."""
    wanted = job, device, cpus
    if wanted not in _kept:
        if len(_kept) == KEPT:
            forget()
        set_threads(job.settings.get("extraction.threads", 1))
        one = resolve(job.recipe.call)(context(job, device))
        batch = job.settings.get("extraction.batch") or images_at_once(torch.device(device))
        _kept[wanted] = Pipeline(job.name, one, cpus, batch) if cpus and isinstance(one, PerImage) else one
    return _kept[wanted]


def images_at_once(device: torch.device) -> int:
    """The images that fit a batch on a device, if no setting says it; on a CPU a larger batch than 1 is no faster."""
    if device.type == "cpu":
        return 1
    return min(max(int(torch.cuda.get_device_properties(device).total_memory // IMAGE), 1), BATCH)


def _one_by_one(job: Job, one: Callable[[Any], Record], shards: Iterable[Sequence[Any]], ask: Ask) -> Iterator[Iterator[Record]]:
    def record(part: Any) -> Record:
        ask()
        with naming(job.name, job.name_of(part)):
            return one(part)

    return (map(record, shard) for shard in shards)


def _named(job: Job, parts: Sequence[Any], records: Iterable[Record]) -> dict[str, Record]:
    """What a shard holds: the records by name, or what is kept of each and the sum of the rest."""
    named: dict[str, Record] = {}
    for part, record in zip(parts, records, strict=True):
        name = job.name_of(part)
        named[name] = record
        if job.recipe.store == "sum":
            named[name] = {kept: record.pop(kept) for kept in job.recipe.keeps}
            add(named.setdefault(SUM, {}), record)
    return named
