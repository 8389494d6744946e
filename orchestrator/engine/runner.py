"""Brings about one step of a plan: what is cached is taken, what another launch is making is waited for, the rest is made."""

import json
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from imagesets.errors import WrongInput
from orchestrator.engine import work
from orchestrator.engine.memory import out_of_memory, ran_out
from orchestrator.engine.progress import Display
from orchestrator.engine.spent import Spent
from orchestrator.planning.plan import Planner, Step
from orchestrator.storage.attached import attachment, fetched, mirror_of, remove, remove_remote
from orchestrator.storage.in_step import in_step
from orchestrator.storage.lease import Lease, LeaseLost, try_lease
from orchestrator.storage.mirror import AT_ONCE
from orchestrator.storage.shards import shard_is_from, shard_path, shards_digest, summed
from orchestrator.storage.store import digest, read_json, write_atomically, write_json
from orchestrator.storage.trouble import patiently, require
from training.loop import CHECKPOINT, Stopped
from training.stage import Settings

PACKAGES = ("wsss-orch", "torch", "torchvision", "ray", "numpy", "opencv-python-headless", "pydensecrf2")
POLL = 0.5  # seconds between two looks at a training's progress, or at a stage that another launch is making


Result = TypeVar("Result")


class Engine(Protocol):
    """What carries out jobs: see `local_engine` and `ray_engine`."""

    name: str
    room: int  # stages that may run side by side

    def map(self, job: work.Job, indices: list[int], done: Callable[[int, Spent], None], ask: Callable[[], None]) -> None: ...

    def train(self, job: work.Job) -> Spent: ...


class Runner:
    """Runs steps on an engine; several threads may each run one."""

    def __init__(self, engine: Engine, planner: Planner, display: Display):
        self.engine, self.planner, self.display = engine, planner, display
        self.stopping = threading.Event()

    def stop(self) -> None:
        """Ask the running stages to checkpoint and end; callable from a signal handler."""
        self.stopping.set()

    def run(self, step: Step) -> bool:
        """Bring one step's result about; whether it had to be made by this launch. An absence of the store is waited out."""
        return self._patiently(lambda: self._run(step))

    def look(self, step: Step) -> None:
        """Take a finished result into the plan, if there is one; the store must be there to tell, and is waited for."""
        self._patiently(lambda: self._look(step))

    def _look(self, step: Step) -> None:
        self.planner.look(step)
        if not step.cached:
            require(self.planner.store.root)

    def _patiently(self, do: Callable[[], Result]) -> Result:
        root = self.planner.store.root

        def blaming() -> Result:
            with work.blaming(root):
                return do()

        return patiently(root, blaming, self._tell, self._pause)

    def _tell(self, line: str) -> None:
        logging.warning("%s", line)
        self.display.say(line)

    def _pause(self, seconds: float) -> None:
        self.stopping.wait(seconds)
        self._check_not_stopping()

    def _run(self, step: Step) -> bool:
        told = False
        while True:
            self._look(step)
            if step.cached:
                return False
            self._check_not_stopping()
            try:
                if (made := self._try(step)) is not None:
                    return made
            except LeaseLost:
                self.display.say(f"{step.name}: another launch has taken it over")
            if not told:
                self.display.say(f"{step.name}: it is being made already; waiting")
                told = True
            time.sleep(POLL)

    def _try(self, step: Step) -> bool | None:
        """Make the step if its lease can be had: whether it had to be made, or None where another launch holds it."""
        with try_lease(step.folder) as lease:
            if lease is None:
                return None
            self._look(step)  # it may have been finished between the last look and the lease
            if step.cached:
                return False
            self._patiently(lambda: self._make(step, lease))
            self._look(step)
            return True

    def _make(self, step: Step, lease: Lease) -> None:
        job = self._job(step, lease)
        self._discard_other_inputs(job)
        started = time.monotonic()
        make: dict[str, Callable[[work.Job, str], dict[str, Any]]]
        make = {"train": partial(self._train, lease), "map": self._map, "copy": self._copy}
        try:
            figures = make[step.stage.recipe.kind](job, step.name)
        except Exception as error:
            self.display.give_up(step.name)
            if ran_out(error):
                raise out_of_memory(step.name, step.stage, error) from error
            raise
        lease.fence()
        work.check_attempt(job)
        write_json(step.folder / "manifest.json", {**self._manifest(step), **figures, "wall": time.monotonic() - started})
        remove(step.folder / CHECKPOINT)  # not before the result counts
        self.display.finish(step.name, f"{figures['cpu']:.1f} s CPU")

    def _job(self, step: Step, lease: Lease) -> work.Job:
        stage, made_from = step.stage, self._made_from(step)
        inputs = {
            word: work.Input(source.folder, source.stage.recipe.network, dict(source.stage.settings), made_from[word])
            for word, source in step.inputs.items()
        }
        return work.Job(
            name=stage.name,
            folder=step.folder,
            token=lease.token,
            recipe=stage.recipe,
            settings=dict(stage.settings),
            random_seed=step.identity["random_seed"],
            classes=self.planner.images.classes,
            items=step.items,
            inputs=inputs,
            made_from=digest(json.dumps(made_from, sort_keys=True).encode()),
            remote=attachment(self.planner.store.root),
        )

    def _made_from(self, step: Step) -> dict[str, str]:
        return {word: source.manifest["digest"] for word, source in step.inputs.items() if source.manifest}

    def _discard_other_inputs(self, job: work.Job) -> None:
        """Drop a checkpoint that was made from other inputs, and a request to stop that an earlier launch left."""
        remove(job.folder / "stop")
        note = job.folder / "made_from.json"
        if (read_json(note) or {}).get("made_from") != job.made_from:
            for name in (CHECKPOINT, "network.pt", "manifest.json"):
                remove(job.folder / name)
            write_json(note, {"made_from": job.made_from})

    def _map(self, job: work.Job, name: str) -> dict[str, Any]:
        shards = job.shards()
        count = len(shards)
        missing = self._missing(job, count)
        total = len(job.parts())
        spent = Spent()
        ready = total - sum(len(shards[index]) for index in missing)
        self.display.start(name, total, "classes" if job.recipe.over == "classes" else "images", ready)

        def done(items: int, own: Spent) -> None:
            nonlocal ready, spent
            ready, spent = ready + items, spent + own
            self.display.update(name, ready)

        self.engine.map(job, missing, done, self._check_not_stopping)
        write_atomically(job.folder / "items.json", json.dumps(job.names()).encode())
        result = self._result(job, count) if job.recipe.result else None
        return {"digest": shards_digest(job.folder, count), "result": result, **spent.figures()}

    def _missing(self, job: work.Job, count: int) -> list[int]:
        """The shards that are not there, or not of these inputs."""
        if mirror := mirror_of(job.folder):
            mirror.bring(shard_path(job.folder, 0).parent, "[0-9]*.npz", AT_ONCE)  # another machine may have made some
        missing = [index for index in range(count) if not shard_is_from(shard_path(job.folder, index), job.made_from)]
        if mirror:
            for index in missing:  # workers on other machines make them, and what they made is brought where nothing is
                shard_path(job.folder, index).unlink(missing_ok=True)
        return missing

    def _result(self, job: work.Job, count: int) -> dict[str, Any]:
        return work.resolve(job.recipe.result)(Settings(job.settings), job.classes, summed(job.folder, count))

    def _train(self, lease: Lease, job: work.Job, name: str) -> dict[str, Any]:
        path = job.folder / "network.pt"
        if mirror_of(job.folder):
            remove(path)  # of an earlier attempt: what a worker elsewhere makes is brought where nothing is
        ended = threading.Event()
        self.display.start(name, 1, "steps")
        watcher = threading.Thread(target=self._watch, args=(name, job.folder, ended), daemon=True)
        watcher.start()
        try:
            with in_step(job.folder, push=["stop"], pull=["progress.json"]):
                spent = self._attempts(lease, job, name)
        finally:
            ended.set()
            watcher.join()
        if not fetched(path).exists():
            raise Stopped(f"{name} was stopped and checkpointed")
        fetched(job.folder / "history.json")  # for the report
        return {"digest": digest(path.read_bytes()), "result": None, **spent.figures()}

    def _attempts(self, lease: Lease, job: work.Job, name: str) -> Spent:
        """Train until no worker is lost, up to RETRIES times anew, each time under a token of its own."""
        for attempt in range(1, work.RETRIES + 1):
            try:
                return self.engine.train(job)
            except work.WorkerLost as lost:
                self._check_not_stopping()
                why = "out of memory" if ran_out(lost) else "it died"
                self._tell(f"{name}: a worker was lost ({why}); going on from the checkpoint, {attempt} of {work.RETRIES}")
                job = replace(job, token=lease.renew())
        return self.engine.train(job)

    def _copy(self, job: work.Job, name: str) -> dict[str, Any]:
        """In this process whatever the engine: reading a file takes no second."""
        self.display.start(name, 1, "file")
        spent = work.copy_network(job)
        return {"digest": digest((job.folder / "network.pt").read_bytes()), "result": None, **spent.figures()}

    def _watch(self, name: str, folder: Path, ended: threading.Event) -> None:
        """Show what the training notes of its progress, and leave it a wish to stop."""
        while not ended.wait(POLL):
            with suppress(OSError):  # a store that fails for a moment: the next look will do
                if self.stopping.is_set():
                    (folder / "stop").touch()
                if note := read_json(folder / "progress.json"):
                    losses = " ".join(f"{loss} {value:.3f}" for loss, value in note["losses"].items())
                    self.display.update(name, note["step"], note["steps"], losses)

    def _manifest(self, step: Step) -> dict[str, Any]:
        return {
            "stage": step.stage.name,
            "component": step.stage.component,
            "key": step.key,
            "identity": step.identity,
            "made_from": self._made_from(step),
            "items": len(step.items),
            "finished": time.time(),
            "engine": self.engine.name,
            "host": socket.gethostname(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "versions": versions(),
            "commit": git_commit(),
        }

    def _check_not_stopping(self) -> None:
        if self.stopping.is_set():
            raise Stopped("stopped")


def discard(step: Step) -> None:
    """Remove a step's result and whatever is half done of it."""
    with try_lease(step.folder) as lease:
        if lease is None:
            raise WrongInput(f"{step.stage.name} is being made by another launch; it cannot be discarded now")
        remove_remote(step.folder)
        (step.folder / "manifest.json").unlink(missing_ok=True)  # first: without it nothing here counts
        for path in step.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != lease.path:
                path.unlink()


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on; those not installed are left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str:
    """The commit of this checkout, with + where files differ from it; a copy on a cluster carries it; empty elsewhere."""
    here = Path(__file__).parent
    if (carried := here.parent / "COMMIT").is_file():
        return carried.read_text()
    try:
        shown = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return shown.stdout.strip()
