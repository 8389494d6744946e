"""Runs one worker of a training, in any process."""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

import torch
from torch import distributed

from imagesets.errors import WrongInput
from orchestrator.engine.capacity import loaders
from orchestrator.engine.context import context, save_network, settings_of
from orchestrator.engine.job import Job, WorkerLost, blaming
from orchestrator.engine.spent import Meter, Spent
from orchestrator.planning.references import resolve
from orchestrator.storage.place import HISTORY, PROGRESS, STOP
from orchestrator.storage.store import write_atomically, write_json
from training import loop
from training.checkpoint import CHECKPOINT
from training.loading import LoaderLost
from training.randomness import seed_torch
from training.stage import Settings, Training
from training.threads import set_threads

PROGRESS_EVERY = 0.5  # seconds between two notes of a training's progress


def run_training(job: Job, rank: int, world: int, device: str, cores: int) -> Spent:
    """Train a stage's network, which rank 0 writes; returns what all workers spent. This worker has `cores` cores to itself."""
    try:
        with blaming(job.root):
            return _run_training(job, rank, world, device, cores)
    except loop.Stopped:
        return Spent()  # a stop was asked for, which is no failure; the runner sees that there is no network yet
    except LoaderLost as lost:
        raise WorkerLost(f"{lost}; if its machine was short of memory, lower training.loaders") from lost
    finally:
        if rank == 0:
            for partial in job.folder.glob("*.partial"):  # a failed write leaves it, and it would keep a full disk full
                partial.unlink(missing_ok=True)


def _run_training(job: Job, rank: int, world: int, device: str, cores: int) -> Spent:
    settings, meter = settings_of(job.settings), Meter(torch.device(device))
    set_threads(settings.training.threads)
    training = prepared(job, device)
    run = loop.Run(
        purpose=(job.random_seed, job.purpose),
        folder=job.folder,
        settings=_with_loaders(settings.training, cores, gpu=device != "cpu"),
        device=torch.device(device),
        rank=rank,
        world=world,
        checkpoint_seconds=settings.training.checkpoint_seconds,
        report=_progress_writer(job.folder, training) if rank == 0 else lambda step, losses, history: None,
        asked_to_stop=lambda: os.path.exists(job.folder / STOP),  # False also if the store fails for a moment
        fence=job.attempt.check,
    )
    with job.attempt.resuming(CHECKPOINT, rank):
        history = loop.train(training, job.items, run)
    _refuse_infinite(training)
    if rank == 0:
        save_network(training.network, job)
        job.attempt.check()
        write_json(job.folder / HISTORY, history)
    return _of_all(meter.spent(), world, device)


def _refuse_infinite(training: Training) -> None:
    """Raise WrongInput for a network that the last step spoilt, whose loss is finite: it is computed before the step."""
    for name, values in training.network.state_dict().items():
        if not values.isfinite().all():
            last = f"after step {training.steps} of {training.steps}"
            raise WrongInput(f"the weights {name} are not finite {last}; a lower learning rate may help")


def _with_loaders(settings: Settings, cores: int, gpu: bool) -> Settings:
    """The settings of the loop; the number of loaders follows the machine unless it is set."""
    default = {"loaders": loaders(cores, settings.threads, gpu)} if settings.loaders is None else {}
    return Settings({**settings.values, **default})


def prepared(job: Job, device: str) -> Training:
    """The training that a stage's function returns, with its add-ons; it draws the same weights in every worker."""
    where = context(job, device)  # before seeding, because networks that the stage reads are built with drawn weights
    seed_torch(*where.purpose, "weights")
    training = resolve(job.recipe.call)(where)
    for add_on in job.add_ons:
        training = resolve(add_on)(training, where)
    return training


def _of_all(own: Spent, world: int, device: str) -> Spent:
    if world == 1:
        return own
    every = [torch.empty(3, dtype=torch.float64, device=device) for _ in range(world)]
    distributed.all_gather(every, torch.tensor(astuple(own), dtype=torch.float64, device=device))
    return sum((Spent(*figures.tolist()) for figures in every), Spent())


def _progress_writer(folder: Path, training: Training) -> Callable[[int, Mapping[str, float], list[dict[str, float]]], None]:
    """The function that notes the progress of a training in its folder, for displays, early stopping and MLflow."""
    written, since = -PROGRESS_EVERY, list[float]()

    def write(step: int, losses: Mapping[str, float], history: list[dict[str, float]]) -> None:
        nonlocal written
        since.extend([] if since else [time.time(), step])
        if time.monotonic() - written >= PROGRESS_EVERY or step == training.steps:
            written = time.monotonic()
            note = {
                "step": step,
                "steps": training.steps,
                "images": step * training.batch,
                "at": time.time(),
                "since": since,  # the time and the number of this attempt's first step
                "losses": dict(losses),
                "rates": sorted({group["lr"] for group in training.optimiser.param_groups}),
                "history": history,
            }
            with suppress(OSError, WrongInput):  # the next checkpoint raises if the store really fails
                write_atomically(folder / PROGRESS, json.dumps(note).encode())

    return write
