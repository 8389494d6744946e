"""Runs stages on this machine without Ray. Results equal those of Ray at equal numbers of workers and threads."""

import json
import logging
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, spawn

from imagesets.errors import WrongInput
from orchestrator.cores import cores
from orchestrator.engine.failures import counting, hand_over, handed_over
from orchestrator.engine.job import Ask, Job, Tell, WorkerLost
from orchestrator.engine.makers import forget
from orchestrator.engine.shard_work import run_shards
from orchestrator.engine.spent import Spent
from orchestrator.engine.training_work import run_training
from training.group import run_in_group

SPENT = "spent"  # a file of rank 0: what all workers spent
GRACE = 5.0  # seconds that the other workers have to end by themselves after one has failed


class LocalEngine:
    """Per-item stages run in this process, shard by shard; a training has a process for each worker."""

    name = "local"
    room = 1  # stage at a time: threads of one process would share its random numbers

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, job: Job, indices: Sequence[int], ask: Ask, tell: Tell) -> Iterator[tuple[int, Spent]]:
        """Make the shards `indices` of a per-item stage; yields the number of items of each and what it took."""
        try:
            cpus = _cores() if torch.cuda.is_available() else 0
            yield from run_shards(job, indices, _device(0), ask, cpus)
        finally:
            forget()  # the next stage may need all the memory

    def train(self, job: Job) -> Spent:
        """Run a training stage; returns what all workers spent. Raises WorkerLost if a worker was killed."""
        world = job.settings["training.workers"]
        _refuse_more_than_gpus(world, torch.cuda.device_count())
        if world == 1:
            return run_training(job, 0, world, _device(0), _cores())
        with tempfile.TemporaryDirectory(prefix="wsss-orch-") as folder:
            _spawn(job, world, Path(folder))
            return Spent(*json.loads((Path(folder) / SPENT).read_text(encoding="utf-8")))


def _refuse_more_than_gpus(workers: int, gpus: int) -> None:
    if gpus and workers > gpus:
        raise WrongInput(f"training.workers={workers}, but this machine has {gpus} GPUs; --set training.workers={gpus}")


def _spawn(job: Job, world: int, folder: Path) -> None:
    """Train in a process for each worker; their failure is raised here as it would be with one worker."""
    workers = spawn(_worker, (job, world, folder), nprocs=world, join=False)
    try:
        while not workers.join(grace_period=GRACE):
            pass
    except (ProcessExitedException, ProcessRaisedException) as error:
        logging.error("%s", error)  # with the worker's own traceback
        first = getattr(error, "exit_code", 0)  # below 0: ended by a signal, such as the system's when memory is short
        told = handed_over(folder)
        raise counting([*told, *([WorkerLost(str(error))] if first < 0 else [] if told else [error])]) from None


def _worker(rank: int, job: Job, world: int, folder: Path) -> None:
    _leave_signals_to(os.getppid())

    def train() -> None:
        spent = run_training(job, rank, world, _device(rank), _cores())
        if rank == 0:
            (folder / SPENT).write_text(json.dumps(astuple(spent)), encoding="utf-8")

    try:
        run_in_group(train, "nccl" if torch.cuda.is_available() else "gloo", folder, rank, world)
    except Exception as error:
        hand_over(error, folder / f"{rank}.error")
        raise


def _leave_signals_to(parent: int) -> None:
    """Ignore the signals that a terminal or scheduler sends to the whole group: the parent process asks for a checkpoint.

    Ctrl-C ends this process if the parent is gone.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: os._exit(1) if os.getppid() != parent else None)


def _device(rank: int) -> str:
    return f"cuda:{rank}" if torch.cuda.is_available() else "cpu"


def _cores() -> int:
    """The cores for each of this machine's GPUs."""
    return cores() // max(torch.cuda.device_count(), 1)
