"""Runs stages on this machine without Ray: the same code, and equal results at equal workers and threads."""

import json
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from imagesets.errors import WrongInput
from orchestrator.engine.job import Job
from orchestrator.engine.shard_work import run_shard
from orchestrator.engine.spent import Spent
from orchestrator.engine.training_work import run_training
from orchestrator.storage.driver import DriverLost
from orchestrator.storage.lease import LeaseLost
from orchestrator.storage.trouble import StoreAbsent
from training.loop import Stopped

# what a worker's traceback announces by name, and this process goes by
TOLD = {f"{kind.__module__}.{kind.__qualname__}: ": kind for kind in (WrongInput, StoreAbsent, LeaseLost, DriverLost)}


class LocalEngine:
    """Per-item work in this process, one shard after the other; training in as many processes as it has workers."""

    name = "local"
    room = 1  # threads of one process would share its random numbers

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, job: Job, indices: Iterable[int], done: Callable[[int, Spent], None], ask: Callable[[], None]) -> None:
        """Run the shards `indices` of a per-item stage, calling `done` with the items of each and what it took.

        `ask` may raise to end it.
        """
        for index in indices:
            done(*run_shard(job, index, _device(0), ask))

    def train(self, job: Job) -> Spent:
        """Run a training stage; what all workers spent."""
        world = job.settings["training.workers"]
        with tempfile.TemporaryDirectory(prefix="wsss-orch-") as folder:
            meeting, spent = Path(folder) / "meeting", Path(folder) / "spent"
            if world == 1:
                _worker(0, job, world, meeting, spent)
            else:
                _spawn(job, world, meeting, spent)
            return Spent(*json.loads(spent.read_text(encoding="utf-8")))


def _spawn(job: Job, world: int, meeting: Path, spent: Path) -> None:
    try:
        multiprocessing.spawn(_worker, (job, world, meeting, spent), nprocs=world)  # type: ignore[attr-defined]
    except multiprocessing.spawn.ProcessRaisedException as error:  # type: ignore[attr-defined]
        last = str(error).strip().splitlines()[-1]  # of the worker's traceback
        logging.error("%s", error)  # the worker's own traceback
        kinds = [(prefix, kind) for prefix, kind in TOLD.items() if last.startswith(prefix)]
        raise kinds[0][1](last.removeprefix(kinds[0][0])) if kinds else RuntimeError(last) from None


def _worker(rank: int, job: Job, world: int, meeting: Path, spent: Path) -> None:
    if world > 1:
        _leave_signals_to(os.getppid())
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=world)
    try:
        own = run_training(job, rank, world, _device(rank))
    except Stopped:
        own = Spent()  # asked for: the runner sees that there is no network yet
    if rank == 0:
        spent.write_text(json.dumps(astuple(own)), encoding="utf-8")
    if world > 1:
        distributed.destroy_process_group()


def _leave_signals_to(parent: int) -> None:
    """Ignore what a terminal or scheduler sends to the whole group: the parent asks for a checkpoint; end if it is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: os._exit(1) if os.getppid() != parent else None)


def _device(rank: int) -> str:
    return f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
