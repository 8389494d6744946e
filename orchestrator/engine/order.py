"""Runs the steps of several plans, which share steps of equal keys. Each key is made once, after its inputs.

Plans are the runs of a launch or a trial. If a step fails, its plans end and the others go on.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from imagesets.errors import WrongInput
from orchestrator.planning.planned_stage import PlannedStage
from training.loop import Stopped


class StageGone(WrongInput):
    """A result was discarded before the stages behind it could read it."""


def run_plans(
    plans: Sequence[Sequence[PlannedStage]],
    make: Callable[[PlannedStage], object],
    look: Callable[[PlannedStage], None],
    room: int,
) -> list[Exception | None]:
    """Call `make` on one step of each key, up to `room` at once, in the order of the plans; returns each plan's error, or None.

    `look` is then called on every step of that key. A plan with a result that it does not find ends with StageGone. If a step
    raises Stopped, so does this, after all running steps have ended.
    """
    failures: list[Exception | None] = [None] * len(plans)
    begun: set[str] = set()
    running: dict[Future, PlannedStage] = {}
    with ThreadPoolExecutor(room) as pool:
        while True:
            for step in _ready(plans, failures, begun):
                if len(running) < room:
                    begun.add(step.key)
                    running[pool.submit(make, step)] = step
            if not running:
                return [failure or _gone(plan) for plan, failure in zip(plans, failures, strict=True)]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                _take(future, running.pop(future), plans, failures, look)


def _ready(plans: Sequence[Sequence[PlannedStage]], failures: Sequence[Exception | None], begun: set[str]) -> list[PlannedStage]:
    """One step of each key that has not begun, has all its inputs, and belongs to a plan that has not failed."""
    steps = [step for plan, failure in zip(plans, failures, strict=True) if failure is None for step in plan]
    ready = {step.key: step for step in reversed(steps) if all(source.cached for source in step.inputs.values())}
    return [ready[key] for key in dict.fromkeys(step.key for step in steps) if key in ready and key not in begun]


def _gone(plan: Sequence[PlannedStage]) -> StageGone | None:
    """The error of a plan that has ended with a step missing: the first one was made, and its readers wait for it."""
    missing = next((step for step in plan if not step.cached), None)
    if missing is None:
        return None
    return StageGone(
        f"the result of {missing.name} was made and is gone: another launch has discarded it, as with --force; the same command "
        "makes it again"
    )


def _take(
    future: Future,
    made: PlannedStage,
    plans: Sequence[Sequence[PlannedStage]],
    failures: list[Exception | None],
    look: Callable[[PlannedStage], None],
) -> None:
    error = future.exception()
    if isinstance(error, Stopped) or (error is not None and not isinstance(error, Exception)):
        raise error
    for number, plan in enumerate(plans):
        for twin in (step for step in plan if step.key == made.key):
            if error is None:
                look(twin)
            else:
                failures[number] = failures[number] or error
