"""Errors of a training's workers: which one reaches the person, and when another attempt is made."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from imagesets.errors import WrongInput
from orchestrator.engine.failures import counting, hand_over, handed_over
from orchestrator.engine.job import WorkerLost
from orchestrator.engine.local_engine import _refuse_more_than_gpus, _spawn
from orchestrator.storage.lease import LeaseLost

PEER = RuntimeError("Connection closed by peer [127.0.0.1]:4711")  # gloo's words
OURS = KeyError("ours")


class Awkward(Exception):
    """An error that can be pickled but not unpickled."""

    def __init__(self, one: str, two: str):
        super().__init__(f"{one} and {two}")


class Failing:
    """A job whose training fails in every worker at once."""

    def __init__(self, error: Exception | None):
        self.error = error

    @property
    def folder(self) -> Path:
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        assert self.error
        raise self.error

    root = folder


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([OURS], OURS),
        ([WrongInput("refused")], WrongInput("refused")),
        ([PEER, WrongInput("refused")], WrongInput("refused")),
        ([WorkerLost("died"), LeaseLost("taken")], LeaseLost("taken")),
        ([PEER], WorkerLost(str(PEER))),
        ([OURS, WorkerLost("died")], WorkerLost("'ours'; died")),
    ],
)
def test_of_several_failures_a_refusal_is_raised_first_and_then_a_lost_worker(failures: list[Exception], expected: Any) -> None:
    found = counting(failures)
    assert (type(found), str(found)) == (type(expected), str(expected))


def test_an_error_is_handed_over_with_its_kind_and_notes_or_as_text(tmp_path: Path) -> None:
    noted = WrongInput("a batch of 64 is too large")
    noted.add_note("in stage cam-network")
    hand_over(noted, tmp_path / "1.error")
    hand_over(Awkward("this", "that"), tmp_path / "0.error")
    first, second = handed_over(tmp_path)
    assert type(first) is WrongInput and str(first) == str(noted) and first.__notes__ == ["in stage cam-network"]
    assert type(second) is RuntimeError and str(second) == "Awkward: this and that"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "kind", "words"), [(WrongInput("no such file"), WrongInput, "no such file"), (None, WorkerLost, "SIGKILL")]
)
def test_an_error_of_two_processes_is_raised_as_in_one_process(
    tmp_path: Path, error: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        _spawn(Failing(error), 2, tmp_path)  # type: ignore[arg-type]


def test_more_workers_than_gpus_are_refused_where_there_are_gpus() -> None:
    _refuse_more_than_gpus(2, 0)
    _refuse_more_than_gpus(2, 2)
    with pytest.raises(WrongInput, match=r"training.workers=2, but this machine has 1 GPUs; --set training.workers=1"):
        _refuse_more_than_gpus(2, 1)


def test_the_error_that_ray_train_wraps_is_found() -> None:
    """With Ray's own classes, as they are raised for a node that is cut off, a refusal and a lack of room."""
    engine = pytest.importorskip("orchestrator.engine.ray_engine")
    from ray.exceptions import ActorDiedError, ActorUnavailableError
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal import exceptions as ray_train
    from ray.train.v2.api.exceptions import NCCLHangError

    gone = ray_train.WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError())
    hanging = ray_train.WorkerHealthCheckTimeoutError("no answer")
    away = ray_train.WorkerHealthCheckFailedError("failed", ActorUnavailableError("no answer", b"0" * 16))
    for failures in ({1: gone}, {0: PEER, 1: gone}, {1: hanging}, {0: away}, {}):
        assert type(counting(engine.failures(WorkerGroupError("told", failures)))) is WorkerLost
    assert type(counting(engine.failures(NCCLHangError("told", {})))) is WorkerLost
    assert counting(engine.failures(WorkerGroupError("told", {0: gone, 1: WrongInput("refused")}))).args == ("refused",)
    assert counting(engine.failures(WorkerGroupError("told", {0: OURS}))) is OURS
    full = counting(engine.failures(ControllerError(ray_train.WorkerGroupStartupTimeoutError(4))))
    assert isinstance(full, WrongInput) and "no room for 4 training workers" in str(full)
