"""Runs stages on this machine without Ray: the same code, and equal results at equal workers and threads."""

import json
import logging
import os
import signal
import tempfile
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, spawn

from imagesets.errors import WrongInput
from orchestrator.engine.failures import counting, hand_over, handed_over
from orchestrator.engine.job import Ask, Done, Job, Tell, WorkerLost
from orchestrator.engine.shard_work import forget, run_shard
from orchestrator.engine.spent import Spent
from orchestrator.engine.training_work import run_training
from training.loop import Stopped

GRACE = 5.0  # seconds that the other workers have to end by themselves once one has failed


class LocalEngine:
    """Per-item work in this process, one shard after the other; training in as many processes as it has workers."""

    name = "local"
    room = 1  # threads of one process would share its random numbers

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, job: Job, indices: Iterable[int], done: Done, ask: Ask, tell: Tell) -> None:
        """Run the shards `indices` of a per-item stage, calling `done` with the items of each and what it took.

        `ask` may raise to end it; there is no worker to lose that `tell` could be told of.
        """
        try:
            for index in indices:
                done(*run_shard(job, index, _device(0), ask))
        finally:
            forget()  # the next stage may want all of the memory

    def train(self, job: Job) -> Spent:
        """Run a training stage; what all workers spent. Raises WorkerLost where a worker was killed."""
        world = job.settings["training.workers"]
        _refuse_more_than_gpus(world, torch.cuda.device_count())
        with tempfile.TemporaryDirectory(prefix="wsss-orch-") as name:
            folder = Path(name)
            if world == 1:
                _train(0, job, world, folder)
            else:
                _spawn(job, world, folder)
            return Spent(*json.loads((folder / "spent").read_text(encoding="utf-8")))


def _refuse_more_than_gpus(workers: int, gpus: int) -> None:
    if gpus and workers > gpus:
        raise WrongInput(f"training.workers={workers}, but this machine has {gpus} GPUs; --set training.workers={gpus}")


def _spawn(job: Job, world: int, folder: Path) -> None:
    """Train in processes of their own; what they fail on is raised here as it would be in one process."""
    workers = spawn(_worker, (job, world, folder), nprocs=world, join=False)
    try:
        while not workers.join(grace_period=GRACE):
            pass
    except (ProcessExitedException, ProcessRaisedException) as error:
        logging.error("%s", error)  # with the worker's own traceback
        first = getattr(error, "exit_code", 0)  # below 0: ended by a signal, as by the system where memory is short
        told = handed_over(folder)
        raise counting([*told, *([WorkerLost(str(error))] if first < 0 else [] if told else [error])]) from None


def _worker(rank: int, job: Job, world: int, folder: Path) -> None:
    _leave_signals_to(os.getppid())
    try:
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
        _train(rank, job, world, folder)
        distributed.destroy_process_group()
    except Exception as error:
        hand_over(error, folder / f"{rank}.error")
        raise


def _train(rank: int, job: Job, world: int, folder: Path) -> None:
    """One worker's part; rank 0 notes in `folder` what all of them spent."""
    try:
        own = run_training(job, rank, world, _device(rank))
    except Stopped:
        own = Spent()  # asked for: the runner sees that there is no network yet
    if rank == 0:
        (folder / "spent").write_text(json.dumps(astuple(own)), encoding="utf-8")


def _leave_signals_to(parent: int) -> None:
    """Ignore what a terminal or scheduler sends to the whole group: the parent asks for a checkpoint; end if it is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: os._exit(1) if os.getppid() != parent else None)


def _device(rank: int) -> str:
    return f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
