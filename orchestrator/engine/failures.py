"""What stages fail on: which error of several workers counts, whether another attempt may do, what to lower for memory."""

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

FINAL = (WrongInput, LeaseLost, DriverLost, StoreAbsent)  # what another attempt at once would only meet again
CUT_OFF = "onnection"  # in what gloo and NCCL say where a peer is gone
# of Ray's memory monitor, which stops a worker before the node is full, or of an allocation that fails
SIGNS = ("low on memory", "OUT_OF_MEMORY", "out of memory", "can't allocate memory", "not enough memory", "MemoryError")


def counting(failures: Sequence[Exception]) -> Exception:
    """The error of a training whose workers failed on `failures`, the first one first.

    A refusal counts before all else. WorkerLost, so that the training is tried anew, where a worker died or lost a peer.
    """
    refusal = next((failure for failure in failures if isinstance(failure, FINAL)), None)
    lost = any(isinstance(failure, WorkerLost) or CUT_OFF in str(failure) for failure in failures)
    return refusal or (WorkerLost("; ".join(map(str, failures))) if lost else failures[0])


def hand_over(error: Exception, path: Path) -> None:
    """Write a worker's error for the process that started it: the error itself, or its text where it cannot be pickled."""
    try:
        content = pickle.dumps(error)
        pickle.loads(content)  # an exception with arguments of its own can often be written and not be read
    except Exception:  # whatever a foreign class does when it is pickled
        content = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.rename(path)


def handed_over(folder: Path) -> list[Exception]:
    """The errors that workers have written to `folder`, the first one first."""
    written = sorted(folder.glob("*.error"), key=lambda path: path.stat().st_mtime_ns)
    return [pickle.loads(path.read_bytes()) for path in written]


def ran_out(error: BaseException) -> bool:
    """Whether an error, or what a worker was lost to, is a lack of memory."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in str(error) for sign in SIGNS)


def out_of_memory(name: str, stage: Stage, error: BaseException) -> WrongInput:
    """What a person is told of a stage called `name` that ran out of memory."""
    grows = [f"{name}.{setting}" for name in (stage.component, *stage.add_ons) for setting in load_all()[name].memory]
    own = [setting for setting in grows if setting in stage.owned.values()]
    if stage.recipe.kind == "train":
        also = "training.workers or training.loaders, or give it a machine with more"
    else:
        also = "how many run at once (`ray start --num-cpus`, or --engine local for one), or give it a machine with more"
    kept = "what is done is kept, and the same command continues"
    return WrongInput(f"out of memory in {name}: lower {', '.join([*own, also])}; {kept} ({' '.join(str(error).split())[:300]})")
