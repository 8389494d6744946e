"""The checkpoint of a training: how far it has come, and the state of all that goes on from there."""

import errno
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from training.run import Run

CHECKPOINT = "checkpoint.pt"

Seen = dict[str, list[float]]  # the values of each named loss over some steps; some steps may lack a loss


class Stateful(Protocol):
    """What a checkpoint keeps: a module, an optimiser and the like."""

    @property
    def state_dict(self) -> Callable[[], dict[str, Any]]: ...

    @property
    def load_state_dict(self) -> Callable[[dict[str, Any]], object]: ...


@dataclass
class Progress:
    """How far a training has come."""

    step: int = 0
    done: int = 0  # steps done in the present epoch
    seen: Seen = field(default_factory=dict)  # this worker's losses in those steps, as far as they are read
    history: list[dict[str, float]] = field(default_factory=list)  # the mean losses of each earlier epoch

    def count(self) -> None:
        """Count a step."""
        self.step, self.done = self.step + 1, self.done + 1

    def note(self, losses: Mapping[str, float]) -> None:
        """Add the losses of a step."""
        for name, value in losses.items():
            self.seen.setdefault(name, []).append(value)

    def end_epoch(self, means: dict[str, float]) -> None:
        """Close the present epoch with its mean losses."""
        self.history.append({"epoch": len(self.history) + 1, **means})
        self.done, self.seen = 0, {}


def damaged(path: Path) -> bool:
    """Whether a checkpoint is no whole file of torch.save: the disk or a copy has cut or changed it."""
    try:
        with zipfile.ZipFile(path) as file:  # torch.save makes a zip file, which has a checksum of each part
            return file.testzip() is not None
    except OSError as error:
        if error.errno != errno.EINVAL:  # the disk fails now, which is no reason to begin anew
            raise
        return True  # a changed byte can also name a place before the file
    except Exception:  # a changed byte can make the reader raise anything
        return True


def load(kept: Mapping[str, Stateful], run: Run) -> Progress:
    """Continue from the checkpoint in the run's folder, which holds the states of all that is `kept`; without one, begin."""
    path = run.folder / CHECKPOINT
    if not path.exists():
        return Progress()
    state = torch.load(path, map_location=run.device, weights_only=True)
    for name, part in kept.items():
        part.load_state_dict(state[name])
    return Progress(**{**state["progress"], "seen": state["seen"][run.rank]})


def save(kept: Mapping[str, Stateful], progress: Progress, run: Run) -> None:
    """Write the checkpoint, on rank 0; all workers must call this."""
    seen = run.of_all(progress.seen)
    if run.rank != 0:
        return
    states = {name: part.state_dict() for name, part in kept.items()}
    save_atomically({**states, "progress": asdict(progress), "seen": seen}, run.folder / CHECKPOINT, run.fence)


def save_atomically(state: object, path: Path, fence: Callable[[], None] = lambda: None) -> None:
    """Write `state` with torch.save so that `path` is either the old file or the whole new one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    fence()
    os.replace(partial, path)
