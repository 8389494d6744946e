"""Errors of stages: which error of several workers counts, whether to try again, what to lower when memory runs out."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from imagesets.errors import WrongInput
from orchestrator.engine.job import WorkerLost
from orchestrator.planning.recipes import load_all
from orchestrator.planning.stage import Stage
from orchestrator.storage.lease import DriverLost, LeaseLost
from orchestrator.storage.trouble import StoreAbsent

FINAL = (WrongInput, LeaseLost, DriverLost, StoreAbsent)  # errors that another attempt would meet again
CUT_OFF = "onnection"  # part of the message of gloo and NCCL if a peer is gone
# parts of messages of Ray's memory monitor, which kills a worker before its node is full, and of failed allocations
SIGNS = ("low on memory", "OUT_OF_MEMORY", "out of memory", "can't allocate memory", "not enough memory", "MemoryError")


def counting(failures: Sequence[Exception]) -> Exception:
    """The one error of a training whose workers failed with `failures`, given in order of time.

    A final error comes first. If a worker died or lost a peer, it is WorkerLost, so that the training is tried again.
    """
    refusal = next((failure for failure in failures if isinstance(failure, FINAL)), None)
    lost = any(isinstance(failure, WorkerLost) or CUT_OFF in str(failure) for failure in failures)
    return refusal or (WorkerLost("; ".join(map(str, failures))) if lost else failures[0])


def hand_over(error: Exception, path: Path) -> None:
    """Write a worker's error for the process that started it; only its text if it cannot be pickled."""
    try:
        content = pickle.dumps(error)
        pickle.loads(content)  # an exception class with its own arguments can often be written but not read
    except Exception:  # a foreign class may raise anything
        content = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.rename(path)


def handed_over(folder: Path) -> list[Exception]:
    """The errors that workers have written to `folder`, in order of time."""
    written = sorted(folder.glob("*.error"), key=lambda path: path.stat().st_mtime_ns)
    return [pickle.loads(path.read_bytes()) for path in written]


def ran_out(error: BaseException) -> bool:
    """Whether an error, or the loss of a worker, came from a lack of memory."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in str(error) for sign in SIGNS)


def out_of_memory(name: str, stage: Stage, error: BaseException) -> WrongInput:
    """The error for a person if the stage called `name` ran out of memory."""
    grows = [f"{owner}.{setting}" for owner in (stage.component, *stage.add_ons) for setting in load_all()[owner].memory]
    own = [setting for setting in grows if setting in stage.owned.values()]
    if stage.recipe.kind == "train":
        also = "training.workers or training.loaders, or give it a machine with more"
    else:
        batch = "extraction.batch"
        # only a GPU raises this error
        own += [batch] if isinstance(error, torch.OutOfMemoryError) and batch in stage.owned.values() else []
        also = "how many run at once (`ray start --num-cpus`, or --engine local for one), or give it a machine with more"
    kept = "what is done is kept, and the same command continues"
    return WrongInput(f"out of memory in {name}: lower {', '.join([*own, also])}; {kept} ({' '.join(str(error).split())[:300]})")
