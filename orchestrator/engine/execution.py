"""Runs the plans of a launch or sweep on an engine, with a display, a log and a way to stop."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.engine.address import require_reachable
from orchestrator.engine.interrupt import asking
from orchestrator.engine.progress import Display
from orchestrator.planning.plan import Planner
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.storage.place import place_of

Plans = Sequence[Sequence[PlannedStage]]
FEW = 200  # images, up to which one process is quicker than Ray (docs/performance.md)


@dataclass(frozen=True)
class Where:
    """The engine that runs stages: "local", or "ray", which is private or the cluster at `address`."""

    engine: str = "ray"
    address: str = ""

    def __post_init__(self) -> None:
        if self.engine not in ("ray", "local"):
            raise WrongInput(f"--engine {self.engine} is neither ray nor local")
        if self.engine == "local" and self.address:
            raise WrongInput("--engine local runs in this process, and --address names a cluster; give one of them")

    def advice(self, steps: Sequence[PlannedStage]) -> str:
        """A sentence on a private Ray whose starts would take longer than its workers save; empty if there is none."""
        trainings = sum(step.stage.recipe.kind == "train" and not step.cached for step in steps)
        images = max((len(step.items) for step in steps), default=0)
        if self.engine == "local" or self.address or not trainings or images > FEW:
            return ""
        return f"{images} images are few: --engine local would save the start of Ray and of its workers in {trainings} trainings"

    def check(self) -> None:
        """Raise WrongInput if the cluster does not answer; called before anything is made or discarded."""
        if self.address:
            require_reachable(self.address)


class Execution:
    """An engine that runs plans of one planner during a `with` block; trainings have `workers` processes."""

    def __init__(self, console: Console, planner: Planner, workers: int, where: Where, log: Path):
        self.console, self.planner, self.log = console, planner, log
        self.display = Display(console)
        self.engine = _engine(where, planner.store.root, workers)
        self.waiting: dict[threading.Event, Plans] = {}  # running plans, by the event that gives them up

    def __enter__(self) -> "Execution":
        from orchestrator.engine.stage_runner import Runner  # loads torch

        with contextlib.ExitStack() as opened:  # which ends what has begun if a later one fails
            opened.enter_context(_logging_to(self.log))
            opened.enter_context(self.engine)
            opened.enter_context(self.display)
            self.runner = Runner(self.engine, self.planner, self.display, self._wanted)
            self.room = threading.Semaphore(self.engine.room)
            opened.enter_context(asking(self.runner.stop))
            self.opened = opened.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.opened.__exit__(*exception)
        _keep(self.log)

    def run(self, plans: Plans, given_up: threading.Event | None = None) -> list[Exception | None]:
        """Run the steps of each plan; returns the error of each plan, or None. The log has the tracebacks.

        Several threads may call this at once and share the engine's room. Setting `given_up` stops, at a checkpoint, the stages
        that only these plans wait for, and raises Stopped. A signal stops all stages at a checkpoint and raises
        KeyboardInterrupt.
        """
        from orchestrator.engine.order import run_plans
        from training.loop import Stopped

        given_up = given_up or threading.Event()
        self.waiting[given_up] = plans
        expected = _expected(plans)
        self.display.expect(expected)
        try:
            return run_plans(plans, lambda step: self._make(step, given_up), self.runner.look, self.engine.room)
        except Stopped:
            if self.runner.making.stopping.is_set():
                raise KeyboardInterrupt from None
            raise
        finally:
            del self.waiting[given_up]
            self.display.drop(expected)

    def _wanted(self, folder: Path) -> bool:
        """Whether the step in `folder` belongs to a running plan that is not given up."""
        running = [plans for given_up, plans in self.waiting.copy().items() if not given_up.is_set()]
        return any(step.folder == folder for plans in running for plan in plans for step in plan)

    def _make(self, step: PlannedStage, given_up: threading.Event) -> None:
        from training.loop import Stopped

        reason = step.reason
        try:
            with self.room:
                if given_up.is_set() and not step.cached:
                    raise Stopped(f"{step.name} is given up")
                made = not step.cached and self.runner.run(step, given_up)
        except Stopped:
            if not given_up.is_set():
                self.display.say(f"stopped during {step.name}; the same command continues it")
            raise
        except Exception as error:
            logging.exception("%s failed", step.name)
            error.add_note(f"in stage {step.name}")
            error.log = self.log  # type: ignore[attr-defined]
            raise
        self.display.made(step.name)
        if made:
            logging.info("%s made (%s)", step.name, reason)
        else:
            self.display.say(f"{step.name}: cached")


def _expected(plans: Plans) -> dict[str, float | None]:
    """The seconds that each missing stage will take if an earlier result tells; a stage of several plans counts once."""
    missing = {step.key: step for plan in reversed(plans) for step in reversed(plan) if not step.cached}
    return {step.name: step.estimate.wall if step.estimate else None for step in reversed(missing.values())}


def note_in_log(log: Path, sentence: str) -> None:
    """Add a sentence to the log of a launch that runs no stage. A launch is told from a trial of a sweep by its log."""
    with _logging_to(log):
        logging.info(sentence)
    _keep(log)


def _keep(log: Path) -> None:
    """Keep the log in the store's bucket, if that is where it is."""
    with contextlib.suppress(OSError):  # a log that cannot be kept is no reason to fail
        place_of(log).keep(log, log)


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Log to this file alone during the block; a notebook's own logging goes on afterwards."""
    root = logging.getLogger()
    before, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    path.parent.mkdir(exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.raiseExceptions = False  # when the disk is full, logging must not print an error for each line
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it writes what is left: a full disk must not hide what ended the block
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
        logging.raiseExceptions = raising


def _engine(where: Where, store: Path, workers: int) -> Any:
    if where.engine == "local":
        from orchestrator.engine.local_engine import LocalEngine

        return LocalEngine()
    try:
        from orchestrator.engine.ray_engine import RayEngine
    except ModuleNotFoundError as error:
        raise WrongInput(f"--engine ray needs {error.name}, which is not installed; --engine local runs without it") from error
    return RayEngine(store, where.address, workers)
