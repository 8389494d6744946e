"""Trainings that two processes share, one after the other; `test_trainings.py` runs it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from tests.contracts.laboratory import Made, Trained
from training.group import run_in_group
from training.loop import Stopped

Told = dict[str, Any]


def train_in_two(made: Mapping[str, Made], folder: Path, backend: str = "gloo") -> dict[str, tuple[Told, Told, Told]]:
    """Each training by two workers, once undisturbed (what both end with) and once resumed (what the first ends with)."""
    multiprocessing.spawn(_worker, (list(made.values()), folder, backend), nprocs=2)  # type: ignore[attr-defined]
    found = {}
    for place, name in enumerate(made):
        files = ("whole-0", "whole-1", "resumed-0")
        first, second, resumed = (torch.load(folder / str(place) / f"{file}.pt", weights_only=True) for file in files)
        found[name] = first, second, resumed
    return found


def _worker(rank: int, made: list[Made], folder: Path, backend: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    run_in_group(lambda: _train_all(made, folder, device, rank), backend, folder, rank, 2)


def _train_all(made: list[Made], folder: Path, device: str, rank: int) -> None:
    for place, one in enumerate(made):
        own = folder / str(place)
        own.mkdir(exist_ok=True)
        _tell(one.again(own / "whole", device, rank=rank, world=2), own / f"whole-{rank}.pt")
        try:
            one.again(own / "halted", device, rank=rank, world=2, stop_at=1)
        except Stopped:
            distributed.barrier()  # rank 0 writes the checkpoint that both go on from
        _tell(one.again(own / "halted", device, rank=rank, world=2), own / f"resumed-{rank}.pt")
        distributed.barrier()


def _tell(trained: Trained, path: Path) -> None:
    # buffers (the statistics of batch norms) are each worker's own after the last step; rank 0's are delivered
    parameters = {name: values.detach().cpu() for name, values in trained.training.network.named_parameters()}
    torch.save({"parameters": parameters, "history": trained.history}, path)
