"""The checkpoint of a training: how far it has come, its weights, and the optimiser's state."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from training.average import Average
from training.run import Run
from training.stage import Training

CHECKPOINT = "checkpoint.pt"

Seen = dict[str, list[float]]  # the values of each named loss over some steps; some steps may lack a loss


@dataclass
class Progress:
    """How far a training has come."""

    step: int = 0
    done: int = 0  # steps done in the present epoch
    seen: Seen = field(default_factory=dict)  # this worker's losses in those steps
    history: list[dict[str, float]] = field(default_factory=list)  # the mean losses of each earlier epoch

    def note(self, losses: dict[str, float]) -> None:
        """Count a step."""
        self.step, self.done = self.step + 1, self.done + 1
        for name, value in losses.items():
            self.seen.setdefault(name, []).append(value)

    def end_epoch(self, means: dict[str, float]) -> None:
        """Close the present epoch with its mean losses."""
        self.history.append({"epoch": len(self.history) + 1, **means})
        self.done, self.seen = 0, {}


def load(training: Training, average: Average, run: Run) -> Progress:
    """Continue from the checkpoint in the run's folder; without one, from the beginning."""
    path = run.folder / CHECKPOINT
    if not path.exists():
        return Progress()
    state = torch.load(path, map_location=run.device, weights_only=True)
    training.objective.load_state_dict(state["objective"])
    training.optimiser.load_state_dict(state["optimiser"])
    average.weights = state["average"]
    return Progress(**{**state["progress"], "seen": state["seen"][run.rank]})


def save(training: Training, average: Average, progress: Progress, run: Run) -> None:
    """Write the checkpoint, on rank 0; all workers must call this."""
    seen = run.of_all(progress.seen)
    if run.rank != 0:
        return
    weights = {"objective": training.objective.state_dict(), "average": average.weights}
    state = {**weights, "optimiser": training.optimiser.state_dict(), "progress": asdict(progress), "seen": seen}
    save_atomically(state, run.folder / CHECKPOINT, run.fence)


def save_atomically(state: object, path: Path, fence: Callable[[], None] = lambda: None) -> None:
    """Write `state` with torch.save so that `path` is either the old file or the whole new one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    fence()
    os.replace(partial, path)
