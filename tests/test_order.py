"""Each key is made once, after its inputs; several are made side by side. A plan that fails is given up and others go on."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.engine.order import StageGone, run_plans
from orchestrator.planning.planned_stage import PlannedStage
from training.loop import Stopped


def step(key: str, *inputs: PlannedStage) -> PlannedStage:
    """A step that is not made yet."""
    return PlannedStage(SimpleNamespace(name=key), key, {}, Path(), [], {source.key: source for source in inputs})


def look(one: PlannedStage) -> None:
    one.manifest = {"key": one.key}


def chain(*keys: str) -> list[PlannedStage]:
    """Steps that each read the step before."""
    made: list[PlannedStage] = []
    for key in keys:
        made.append(step(key, *made[-1:]))
    return made


def test_what_two_plans_share_is_made_once_and_known_to_both() -> None:
    made: list[str] = []
    plans = [chain("network", "maps"), chain("network", "masks")]
    assert run_plans(plans, lambda one: made.append(one.key), look, room=1) == [None, None]
    assert made == ["network", "maps", "masks"]
    assert all(one.cached for plan in plans for one in plan)


def test_plans_go_side_by_side_where_there_is_room() -> None:
    meeting = threading.Barrier(2, timeout=10)  # passes only if two steps are at it at once

    assert run_plans([chain("a"), chain("b")], lambda one: meeting.wait(), look, room=2) == [None, None]


def test_no_more_run_at_once_than_there_is_room_for() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def make(one: PlannedStage) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1

    run_plans([chain(str(number)) for number in range(7)], make, look, room=3)
    assert most == 3


def test_a_step_never_begins_before_its_inputs_are_there() -> None:
    def make(one: PlannedStage) -> None:
        assert all(source.cached for source in one.inputs.values())

    assert run_plans([chain(*"abcd"), chain(*"abxy")], make, look, room=4) == [None, None]


def test_a_plan_that_fails_is_given_up_and_the_other_goes_on() -> None:
    made: list[str] = []

    def make(one: PlannedStage) -> None:
        if one.key == "bad":
            raise ValueError("no")
        made.append(one.key)

    failed, whole = run_plans([chain("a", "bad", "c"), chain("a", "d", "e")], make, look, room=1)
    assert isinstance(failed, ValueError) and whole is None
    assert made == ["a", "d", "e"]


def test_a_plan_whose_result_is_discarded_before_it_is_read_has_an_error() -> None:
    def finds(one: PlannedStage) -> None:
        if one.key != "discarded":
            look(one)

    gone, whole = run_plans([chain("a", "discarded", "c"), chain("a", "d")], lambda one: None, finds, room=1)
    assert isinstance(gone, StageGone) and "the result of discarded was made and is gone" in str(gone)
    assert whole is None


def test_a_stop_waits_for_running_steps_and_begins_no_other() -> None:
    ended = threading.Event()
    begun = threading.Event()

    def make(one: PlannedStage) -> None:
        if one.key == "slow":
            begun.set()
            threading.Event().wait(0.05)
            ended.set()
        else:
            begun.wait(10)
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        run_plans([chain("stops", "never"), chain("slow", "neither")], make, look, room=2)
    assert ended.is_set()
