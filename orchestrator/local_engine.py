"""Runs stages in this process: no Ray, the same code, equal results at one worker and equal threads."""

from collections.abc import Callable, Iterable

import torch

from imagesets.errors import WrongInput
from orchestrator import work
from training.loop import Stopped


class LocalEngine:
    """Everything here, one shard after the other."""

    name = "local"

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, job: work.Job, indices: Iterable[int], done: Callable[[dict[str, float]], None]) -> None:
        """Run the shards `indices` of a per-item stage, calling `done` with each one's figures."""
        for index in indices:
            done(work.run_shard(job, index, _device()))

    def train(self, job: work.Job) -> float:
        """Run a training stage; CPU seconds."""
        if job.settings["training.workers"] > 1:
            raise WrongInput("--engine local trains in one process; use --engine ray for training.workers above 1")
        try:
            return work.run_training(job, 0, 1, _device())
        except Stopped:
            return 0.0  # the runner sees that there is no network yet


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
