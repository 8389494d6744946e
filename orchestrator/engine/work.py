"""The work of one stage, as every engine runs it: in this process, in a Ray task, or in a Ray Train worker.

A `Job` says all of it and can be sent to another node; nothing here knows which engine runs it.
"""

import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from imagesets.errors import WrongInput
from imagesets.item import Item
from imagesets.item_list import ItemList
from orchestrator.engine.spent import Meter, Spent
from orchestrator.planning.recipes import StageRecipe
from orchestrator.storage.attached import Attachment, attach_worker, belongs, fetched, mirror_of, publish
from orchestrator.storage.driver import DriverLost, check_driver
from orchestrator.storage.in_step import in_step
from orchestrator.storage.lease import LeaseLost, check_fence
from orchestrator.storage.shards import SHARD, Shards, StoredRecords, shard_path, write_shard
from orchestrator.storage.store import write_atomically, write_json
from orchestrator.storage.trouble import StoreAbsent, blame
from training import loop
from training.randomness import seed_torch
from training.stage import Context, Settings

RETRIES = 3  # of what a worker died in; an exception in our own code would only come again
PROGRESS_EVERY = 0.5  # seconds between two notes of a training's progress


class WorkerLost(Exception):
    """A worker died, or the node that it ran on; another attempt continues from the checkpoint."""


@dataclass(frozen=True)
class Input:
    """The finished stage behind a word: its folder and, where it delivers a network, how to rebuild that."""

    folder: Path
    network: str
    settings: Mapping[str, Any]
    digest: str = ""  # of its result


@dataclass(frozen=True, eq=False)
class Job:
    """One stage to run; equal where folder and attempt are equal."""

    name: str
    folder: Path
    token: str  # of the lease: names this attempt
    recipe: StageRecipe
    settings: Mapping[str, Any]
    random_seed: int
    classes: tuple[str, ...]
    items: ItemList
    inputs: Mapping[str, Input]
    made_from: str  # digest over the inputs' content
    remote: Attachment | None = None  # of a store on S3

    def __hash__(self) -> int:
        return hash((self.folder, self.token))

    @property
    def root(self) -> Path:
        """The store's."""
        return self.folder.parents[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and (self.folder, self.token) == (other.folder, other.token)

    def parts(self) -> Sequence[Any]:
        """What a per-item stage goes over: its images, or the class indices."""
        return range(len(self.classes)) if self.recipe.over == "classes" else self.items

    def shards(self) -> Shards:
        """The parts cut into shards; a class is as much work as many images and makes a shard of its own."""
        return Shards(self.parts(), 1 if self.recipe.over == "classes" else SHARD)

    def names(self) -> list[list[str]]:
        """The record names of the parts, by shard."""
        names = self.classes if self.recipe.over == "classes" else self.items.names()
        return [list(shard) for shard in Shards(names, self.shards().size)]

    def name_of(self, part: Any) -> str:
        """The record name of a part."""
        return self.classes[part] if self.recipe.over == "classes" else part.id

    def uses_network(self) -> bool:
        """Whether a GPU would help."""
        return any(source.network for source in self.inputs.values())


def resolve(reference: str) -> Callable[..., Any]:
    """The function that "package.module:function" names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def at_home(job: Job) -> Job:
    """The job with its folders in this machine's own mirror, where the store is on S3."""
    return job if job.remote is None else _at_home(job)


@lru_cache(maxsize=4)
def _at_home(job: Job) -> Job:
    assert job.remote is not None
    here, there = attach_worker(job.remote), job.remote.root
    inputs = {}
    for word, source in job.inputs.items():
        folder = here / source.folder.relative_to(there)
        belongs(folder, source.digest)
        inputs[word] = replace(source, folder=folder)
    own = here / job.folder.relative_to(there)
    own.mkdir(parents=True, exist_ok=True)
    return replace(job, folder=own, inputs=inputs)


def check_attempt(job: Job) -> None:
    """Raise LeaseLost or DriverLost where another launch has taken the stage, or the whole store, over."""
    if job.remote is None:
        check_fence(job.folder / "lease.json", job.token)
    else:
        check_driver(job.folder, job.remote.driver)  # the lease of the stage is in the driver's mirror alone


@contextmanager
def blaming(root: Path) -> Iterator[None]:
    """Tell a failure of the block that the store at `root` is to blame for as that: see `blame`."""
    try:
        yield
    except (StoreAbsent, LeaseLost, DriverLost, loop.Stopped):
        raise
    except Exception as error:
        blame(error, root)
        raise


def run_shard(job: Job, index: int, device: str, ask: Callable[[], None] = lambda: None) -> tuple[int, Spent]:
    """Do one shard of a per-item stage and write it; the number of its items. `ask` is called before every item."""
    home = at_home(job)
    with blaming(home.root):
        return _run_shard(home, index, device, ask)


def _run_shard(job: Job, index: int, device: str, ask: Callable[[], None]) -> tuple[int, Spent]:
    meter = Meter(torch.device(device))
    one = _prepared(job, device)
    parts = job.shards()[index]
    records = {}
    for part in parts:
        ask()
        name = job.name_of(part)
        try:
            records[name] = one(part)
        except Exception as error:
            error.add_note(f"{job.name} failed on {name}")
            raise
    if job.recipe.store == "sum":
        records = {"sum": _sum(list(records.values()))}
    check_attempt(job)
    write_shard(shard_path(job.folder, index), records, job.made_from)
    return len(parts), meter.spent()


def _sum(records: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.sum([record[name] for record in records], axis=0) for name in records[0]}


@lru_cache(maxsize=2)  # two stages may take turns in one process
def _prepared(job: Job, device: str) -> Callable[[Any], dict[str, np.ndarray]]:
    """The stage's function of one item, with its networks loaded; kept while a process does shards of one stage."""
    loop.set_threads(job.settings.get("extraction.threads", 1))
    return resolve(job.recipe.call)(_context(job, device))


def run_training(job: Job, rank: int, world: int, device: str) -> Spent:
    """Train one stage's network to the end and write it (rank 0); what all workers spent."""
    home = at_home(job)
    try:
        with blaming(home.root):
            return _run_training(home, rank, world, device)
    finally:
        if rank == 0:
            for partial in home.folder.glob("*.partial"):  # of a write that failed: it would only keep a full disk full
                partial.unlink(missing_ok=True)


def _run_training(job: Job, rank: int, world: int, device: str) -> Spent:
    settings, meter = Settings(job.settings), Meter(torch.device(device))
    loop.set_threads(settings.training.threads)
    purpose = (job.random_seed, job.recipe.call)
    seed_torch(*purpose, "weights")
    task = resolve(job.recipe.call)(_context(job, device))
    run = loop.Run(
        purpose=purpose,
        folder=job.folder,
        settings=settings.training,
        device=torch.device(device),
        rank=rank,
        world=world,
        report=_progress_writer(job.folder, task.steps) if rank == 0 else lambda step, losses: None,
        asked_to_stop=lambda: _exists(job.folder / "stop"),
        fence=lambda: check_attempt(job),
    )
    with _checkpoints(job, rank):
        history = loop.train(task, job.items, run)
    if rank == 0:
        loop.save_atomically(task.network.state_dict(), job.folder / "network.pt", run.fence)
        publish(job.folder / "network.pt", job.folder / "network.pt")
        write_json(job.folder / "history.json", history)
    return _of_all(meter.spent(), world, device)


def _of_all(own: Spent, world: int, device: str) -> Spent:
    if world == 1:
        return own
    every = [torch.empty(3, dtype=torch.float64, device=device) for _ in range(world)]
    distributed.all_gather(every, torch.tensor(astuple(own), dtype=torch.float64, device=device))
    return sum((Spent(*figures.tolist()) for figures in every), Spent())


def _checkpoints(job: Job, rank: int) -> AbstractContextManager[None]:
    """Starts every worker from the checkpoint that a store on S3 has, and brings there what this training writes."""
    if (mirror := mirror_of(job.folder)) is None:
        return nullcontext()
    mirror.bring(job.folder, loop.CHECKPOINT)  # all workers must start from the same one, and only this is what all can have
    if rank:
        return nullcontext()
    try:  # the driver's own mirror has the lease: there it sees the progress, and its wish to stop is seen, without the remote
        check_fence(job.folder / "lease.json", job.token)
        push, pull = [loop.CHECKPOINT], list[str]()
    except LeaseLost:
        push, pull = [loop.CHECKPOINT, "progress.json"], ["stop"]
    return in_step(job.folder, push, pull, last=(loop.CHECKPOINT,))


def copy_network(job: Job) -> Spent:
    """Write the network that a copying stage takes from a file."""
    meter = Meter(torch.device("cpu"))
    module = resolve(job.recipe.call)(_import_context(job.recipe, job.settings, job.classes, job.items))
    loop.save_atomically(module.state_dict(), job.folder / "network.pt", lambda: check_attempt(job))
    publish(job.folder / "network.pt", job.folder / "network.pt")
    return meter.spent()


def import_problems(
    recipe: StageRecipe, settings: Mapping[str, Any], classes: tuple[str, ...], items: Sequence[Item]
) -> list[str]:
    """What is wrong with the files that an importing stage takes in."""
    return resolve(recipe.check)(_import_context(recipe, settings, classes, items))


def _import_context(recipe: StageRecipe, settings: Mapping[str, Any], classes: tuple[str, ...], items: Sequence[Item]) -> Context:
    own = Settings(settings)
    untrained = {recipe.writes: resolve(recipe.network)(own, classes)} if recipe.network else {}
    return Context(own, classes, items, 0, torch.device("cpu"), untrained)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a store that fails for a moment asks for nothing
        return False


def _progress_writer(folder: Path, steps: int) -> Callable[[int, dict[str, float]], None]:
    written = -PROGRESS_EVERY

    def write(step: int, losses: dict[str, float]) -> None:
        nonlocal written
        if time.monotonic() - written >= PROGRESS_EVERY or step == steps:
            written = time.monotonic()
            note = json.dumps({"step": step, "steps": steps, "losses": losses}).encode()
            with suppress(
                OSError, WrongInput
            ):  # a note is not worth an epoch: the next checkpoint tells whether the store is well
                write_atomically(folder / "progress.json", note)

    return write


def _context(job: Job, device: str) -> Context:
    where = torch.device(device)
    inputs = {
        word: load_network(source, job.classes, where) if source.network else StoredRecords(source.folder)
        for word, source in job.inputs.items()
    }
    return Context(Settings(job.settings), job.classes, job.items, job.random_seed, where, inputs)


def load_network(source: Input, classes: tuple[str, ...], device: torch.device) -> nn.Module:
    """A finished training stage's network on `device`, in evaluation mode."""
    module = resolve(source.network)(Settings(source.settings), classes)
    path = fetched(source.folder / "network.pt")
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise WrongInput(
            f"{path} does not hold the network that {source.network} builds: {str(error).splitlines()[0]}"
        ) from error
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.eval().requires_grad_(False)
