"""Makes the results of stages on an engine: in shards, by a training, or from a file; the figures of each for its manifest."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from orchestrator.engine.context import importing, save_network, settings_of
from orchestrator.engine.failures import ran_out
from orchestrator.engine.job import RETRIES, Ask, Done, Job, Tell, WorkerLost, resolve
from orchestrator.engine.progress import Display
from orchestrator.engine.spent import Meter, Spent
from orchestrator.storage.beside import beside
from orchestrator.storage.shards import StoredRecords, shards_digest, summed, write_names
from orchestrator.storage.store import digest, read_json
from training.loop import Stopped

LOOK = 0.5  # seconds between two looks at a training's progress


class Engine(Protocol):
    """What carries out jobs: see `local_engine` and `ray_engine`."""

    name: str
    room: int  # stages that may run side by side

    def map(self, job: Job, indices: list[int], done: Done, ask: Ask, tell: Tell) -> None: ...

    def train(self, job: Job) -> Spent: ...


class Making:
    """Makes stages side by side on one engine.

    `stopping` is set by whoever wants all of them to end; `wanted` tells whether anybody still waits for the stage in a folder.
    """

    def __init__(self, engine: Engine, display: Display):
        self.engine, self.display = engine, display
        self.stopping = threading.Event()
        self.wanted: Callable[[Path], bool] = lambda folder: True

    def map(self, job: Job, name: str) -> dict[str, Any]:
        """The shards that are missing, and what all of them come to."""
        shards = job.shards()
        count = len(shards)
        missing = job.attempt.missing(count)
        total = len(job.parts())
        spent = Spent()
        ready = total - sum(len(shards[index]) for index in missing)
        self.display.start(name, total, "classes" if job.recipe.over == "classes" else "images", ready)

        def done(items: int, own: Spent) -> None:
            nonlocal ready, spent
            ready, spent = ready + items, spent + own
            self.display.update(name, ready)

        self.engine.map(job, missing, done, lambda: self.check_wanted(job.folder), lambda line: self.tell(f"{name}: {line}"))
        write_names(job.folder, job.names())
        result = self._result(job, count) if job.recipe.result else None
        warnings = resolve(job.recipe.warnings)(StoredRecords(job.folder)) if job.recipe.warnings else []
        for sentence in warnings:
            self.tell(f"{name}: {sentence}")
        return {"digest": shards_digest(job.folder, count), "result": result, "warnings": warnings, **spent.figures()}

    def _result(self, job: Job, count: int) -> dict[str, Any]:
        return resolve(job.recipe.result)(settings_of(job.settings), job.classes, summed(job.folder, count))

    def train(self, job: Job, name: str) -> dict[str, Any]:
        """A network; raises Stopped where the training was asked to end before its last step."""
        job.attempt.remove("network.pt")  # of an earlier attempt: what a worker elsewhere makes is brought where nothing is
        self.display.start(name, 1, "steps", note="the workers start")
        with beside(partial(self._watch, name, job.folder), LOOK), job.attempt.following():
            spent = self._attempts(job, name)
        path = job.attempt.file("network.pt")
        if not path.exists():
            raise Stopped(f"{name} was stopped and checkpointed")
        job.attempt.file("history.json")  # for the report
        return {"digest": digest(path.read_bytes()), "result": None, **spent.figures()}

    def _attempts(self, job: Job, name: str) -> Spent:
        """Train until no worker is lost, up to RETRIES times anew, each time under a token of its own."""
        for attempt in range(RETRIES + 1):
            try:
                return self.engine.train(job)
            except WorkerLost as lost:
                self.check_wanted(job.folder)
                if attempt == RETRIES:
                    raise
                why = "out of memory" if ran_out(lost) else "it died"
                self.tell(f"{name}: a worker was lost ({why}); going on from the checkpoint, {attempt + 1} of {RETRIES}")
                job = replace(job, attempt=job.attempt.again())
        raise AssertionError("unreachable: the last attempt returns or raises")

    def copy(self, job: Job, name: str) -> dict[str, Any]:
        """A network from a file; in this process whatever the engine, since reading a file takes no second."""
        self.display.start(name, 1, "file")
        meter = Meter(torch.device("cpu"))
        save_network(resolve(job.recipe.call)(importing(job.recipe, job.settings, job.classes, job.items)), job)
        spent = meter.spent()
        return {"digest": digest((job.folder / "network.pt").read_bytes()), "result": None, **spent.figures()}

    def _watch(self, name: str, folder: Path) -> None:
        """Show what the training notes of its progress, and leave it a wish to stop."""
        with suppress(OSError):  # a store that fails for a moment: the next look will do
            if self.stopping.is_set() or not self.wanted(folder):
                (folder / "stop").touch()
            if note := read_json(folder / "progress.json"):
                losses = " ".join(f"{loss} {value:.3f}" for loss, value in note["losses"].items())
                self.display.update(name, note["step"], note["steps"], losses)

    def tell(self, line: str) -> None:
        """Say a line on the screen and in the log."""
        logging.warning("%s", line)
        self.display.say(line)

    def check_wanted(self, folder: Path) -> None:
        """Raise Stopped where the stage in `folder` need not be made: nobody waits for it, or the launch is to stop."""
        self.check_not_stopping()
        if not self.wanted(folder):
            raise Stopped("nobody waits for it any more")

    def check_not_stopping(self) -> None:
        """Raise Stopped once somebody has asked the launch to stop."""
        if self.stopping.is_set():
            raise Stopped("stopped")
