"""What the workers of a training failed on, brought together: which error counts, and whether another attempt may succeed."""

import pickle
from collections.abc import Sequence
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.engine.job import WorkerLost
from orchestrator.storage.lease import DriverLost, LeaseLost
from orchestrator.storage.trouble import StoreAbsent

FINAL = (WrongInput, LeaseLost, DriverLost, StoreAbsent)  # what another attempt at once would only meet again
CUT_OFF = "onnection"  # in what gloo and NCCL say where a peer is gone


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
