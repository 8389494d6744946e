"""Makes the three kinds of stages on an engine: shards, a training, an imported file. Each returns figures for its manifest.

`partial` says that the seconds are of a part of the work, because an earlier attempt did the rest.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from orchestrator.engine.context import importing, save_network, settings_of
from orchestrator.engine.failures import ran_out
from orchestrator.engine.job import RETRIES, Ask, Job, Tell, WorkerLost
from orchestrator.engine.progress import Display
from orchestrator.engine.spent import Meter, Spent
from orchestrator.planning.references import resolve
from orchestrator.storage.beside import beside
from orchestrator.storage.place import HISTORY, NETWORK, PROGRESS, STOP
from orchestrator.storage.shards import StoredRecords, shards_digest, summed, write_names
from orchestrator.storage.store import digest, read_json
from training.checkpoint import CHECKPOINT, damaged
from training.loop import Stopped

LOOK = 0.5  # seconds between two looks at a training's progress


class Engine(Protocol):
    """What runs jobs: `local_engine` or `ray_engine`."""

    name: str
    room: int  # number of stages that may run side by side

    def map(self, job: Job, indices: list[int], ask: Ask, tell: Tell) -> Iterable[tuple[int, Spent]]: ...

    def train(self, job: Job) -> Spent: ...


class Making:
    """Makes stages, several at once, on one engine.

    `stopping` is set to end all of them. `wanted` says whether a plan still waits for the stage in a folder.
    """

    def __init__(self, engine: Engine, display: Display, wanted: Callable[[Path], bool] = lambda folder: True):
        self.engine, self.display, self.wanted = engine, display, wanted
        self.stopping = threading.Event()

    def map(self, job: Job, name: str) -> dict[str, Any]:
        """Make the missing shards of a per-item stage, and its result from all shards."""
        recipe, shards = job.recipe, job.shards()
        missing = job.attempt.missing(len(shards))
        total, spent = len(job.parts()), Spent()
        ready = total - sum(len(shards[index]) for index in missing)
        self.display.start(name, total, "classes" if recipe.over == "classes" else "images", ready)
        ask, tell = partial(self.check_wanted, job.folder), lambda line: self.tell(f"{name}: {line}")
        for items, own in self.engine.map(job, missing, ask, tell):
            ready, spent = ready + items, spent + own
            self.display.update(name, ready)
        write_names(job.folder, job.names())
        result = None
        if recipe.result:
            result = resolve(recipe.result)(settings_of(job.settings), job.classes, summed(job.folder, len(shards)))
        warnings = resolve(recipe.warnings)(StoredRecords(job.folder)) if recipe.warnings else []
        for sentence in warnings:
            tell(sentence)
        figures = {"partial": len(missing) < len(shards), **spent.figures()}
        return {"digest": shards_digest(job.folder, len(shards)), "result": result, "warnings": warnings, **figures}

    def train(self, job: Job, name: str) -> dict[str, Any]:
        """Train a network. Raises Stopped if the training was asked to end before its last step."""
        job.attempt.remove(NETWORK)  # an earlier attempt's; with a file there, the one made elsewhere would not be brought
        self.display.start(name, 1, "steps", note="the workers start")
        resumed = (checkpoint := job.attempt.file(CHECKPOINT)).exists()
        if resumed and damaged(checkpoint):
            self.tell(f"warning: {name}: the checkpoint {checkpoint} is damaged, so the training begins anew")
            job.attempt.remove(CHECKPOINT)
            resumed = False
        if resumed:
            self.display.say(f"{name}: goes on from its checkpoint")
        with beside(partial(self._watch, name, job.folder), LOOK), job.attempt.following():
            spent, lost = self._attempts(job, name)
        path = job.attempt.file(NETWORK)
        if not path.exists():
            raise Stopped(f"{name} was stopped and checkpointed")
        job.attempt.file(HISTORY)  # for the report
        return {"digest": digest(path.read_bytes()), "result": None, "partial": resumed or lost, **spent.figures()}

    def _attempts(self, job: Job, name: str) -> tuple[Spent, bool]:
        """Train; after a lost worker try again, up to RETRIES times, each time under a new token.

        Returns what the last attempt spent, and whether there were others.
        """
        for attempt in range(RETRIES + 1):
            try:
                return self.engine.train(job), attempt > 0
            except WorkerLost as lost:
                self.check_wanted(job.folder)
                if attempt == RETRIES:
                    raise
                why = "out of memory" if ran_out(lost) else "it died"
                self.tell(f"{name}: a worker was lost ({why}); going on from the checkpoint, {attempt + 1} of {RETRIES}")
                job = replace(job, attempt=job.attempt.again())
        raise AssertionError("unreachable: the last attempt returns or raises")

    def copy(self, job: Job, name: str) -> dict[str, Any]:
        """Import a network from a file, always in this process, because it takes less than a second."""
        self.display.start(name, 1, "file")
        meter = Meter(torch.device("cpu"))
        save_network(resolve(job.recipe.call)(importing(job.recipe, job.settings, job.classes, job.items)), job)
        return {"digest": digest((job.folder / NETWORK).read_bytes()), "result": None, **meter.spent().figures()}

    def _watch(self, name: str, folder: Path) -> None:
        """Show the progress that a training writes to its folder, and ask it there to stop if it must."""
        with suppress(OSError):  # the store fails for a moment; the next look will succeed
            if self.stopping.is_set() or not self.wanted(folder):
                (folder / STOP).touch()
            if note := read_json(folder / PROGRESS):
                losses = " ".join(f"{loss} {value:.3f}" for loss, value in note["losses"].items())
                self.display.update(name, note["step"], note["steps"], losses)

    def tell(self, line: str) -> None:
        """Print a line and log it."""
        logging.warning("%s", line)
        self.display.say(line)

    def check_wanted(self, folder: Path) -> None:
        """Raise Stopped if the launch is to stop, or no plan waits for the stage in `folder`."""
        self.check_not_stopping()
        if not self.wanted(folder):
            raise Stopped("no plan waits for it any more")

    def check_not_stopping(self) -> None:
        """Raise Stopped if the launch is to stop."""
        if self.stopping.is_set():
            raise Stopped("stopped")
