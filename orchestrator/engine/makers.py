"""What makes the records of a stage in this process: its function with the networks loaded, kept from one shard to the next."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from orchestrator.engine.context import context
from orchestrator.engine.job import Ask, Job, naming
from orchestrator.engine.pipeline import Pipeline
from orchestrator.planning.references import resolve
from training.stage import PerImage, Record
from training.threads import set_threads

BATCH = 8  # images that a GPU computes at once, at most
IMAGE = 4e9  # bytes of a GPU's memory for each of them
KEPT = 2  # stages may alternate in one process


class OneByOne:
    """Makes a stage's records one after the other, in the calling thread."""

    def __init__(self, stage: str, one: Callable[[Any], Record], name_of: Callable[[Any], str]):
        self.stage, self.one, self.name_of = stage, one, name_of

    def records(self, shards: Iterable[Sequence[Any]], ask: Ask = lambda: None) -> Iterator[Iterator[Record]]:
        """The records of each shard; `ask` is called before every part, and may raise to end this."""

        def record(part: Any) -> Record:
            ask()
            with naming(self.stage, self.name_of(part)):
                return self.one(part)

        return (map(record, shard) for shard in shards)

    def cpu(self) -> float:
        """CPU seconds that other processes have spent: none."""
        return 0.0

    def close(self) -> None:
        """There is nothing to end."""


Maker = OneByOne | Pipeline
_kept: dict[tuple[Job, str, int], Maker] = {}


def maker(job: Job, device: str, cpus: int) -> Maker:
    """What makes the records of a job, with its networks loaded."""
    set_threads(job.settings.get("extraction.threads", 1))  # at every use: the kept stage before may have another number
    wanted = job, device, cpus
    if wanted not in _kept:
        if len(_kept) == KEPT:
            forget()
        one = resolve(job.recipe.call)(context(job, device))
        _kept[wanted] = maker_of(job.name, one, job.name_of, job.settings, device, cpus)
    return _kept[wanted]


def maker_of(
    stage: str, one: Callable[[Any], Record], name_of: Callable[[Any], str], settings: Mapping[str, Any], device: str, cpus: int
) -> Maker:
    """What makes records with the function `one` of a stage: with `cpus` cores a pipeline, if the function allows it."""
    if cpus and isinstance(one, PerImage):
        return Pipeline(stage, one, cpus, settings.get("extraction.batch") or images_at_once(torch.device(device)))
    return OneByOne(stage, one, name_of)


def images_at_once(device: torch.device) -> int:
    """The images that a device gets at once, if no setting says it; on a CPU more than one are no faster."""
    if device.type == "cpu":
        return 1
    return min(max(int(torch.cuda.get_device_properties(device).total_memory // IMAGE), 1), BATCH)


def cpu_elsewhere() -> float:
    """CPU seconds that other processes have spent on records of this one since the last call."""
    return sum(made.cpu() for made in _kept.values())


def forget() -> None:
    """Free the networks, and end the threads and processes beside them."""
    while _kept:
        _, made = _kept.popitem()
        made.close()
