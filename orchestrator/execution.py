"""Carries out planned runs: on an engine, with a display, a log and a way to stop."""

import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.launch import Prepared
from orchestrator.plan import Step
from orchestrator.progress import Display


@dataclass(frozen=True)
class Where:
    """Where stages run: on `engine` "ray" (a private one, or the cluster at `address`) or "local"."""

    engine: str = "ray"
    address: str = ""

    def __post_init__(self) -> None:
        if self.engine not in ("ray", "local"):
            raise WrongInput(f"--engine {self.engine} is neither ray nor local")


def execute(console: Console, runs: Sequence[Prepared], plans: Sequence[Sequence[Step]], where: Where) -> list[Exception | None]:
    """Bring about the steps `plans` of each of `runs`; what each run failed on. The failing stages' whole story is in its log.

    Raises KeyboardInterrupt where it was told to stop; what was running is checkpointed then.
    """
    # heavy imports (torch, ray) only where something runs
    from orchestrator.runner import Runner
    from orchestrator.schedule import run_plans
    from training.loop import Stopped

    began, first = time.monotonic(), runs[0]
    log = log_to(first)
    with Display(console) as display, _engine(where, first) as engine:
        runner = Runner(engine, first.planner, display)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: runner.stop())

        def make(step: Step) -> None:
            reason = step.reason
            try:
                if step.cached or not runner.run(step):
                    display.say(f"{step.name}: cached")
                else:
                    logging.info("%s made (%s)", step.name, reason)
            except Stopped:
                display.say(f"stopped during {step.name}; the same command continues it")
                raise
            except Exception as error:
                logging.exception("%s failed", step.name)
                error.add_note(f"in stage {step.name}")
                error.log = log  # type: ignore[attr-defined]
                raise

        try:
            failures = run_plans(plans, make, first.planner.look, engine.room)
        except Stopped:
            raise KeyboardInterrupt from None
    console.print(f"ran in {time.monotonic() - began:.0f} s; log {log}")
    return failures


def log_to(run: Prepared) -> Path:
    """Send the log to a run's folder; its path."""
    path = run.request.store / "runs" / run.run / "log.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True)
    return path


def _engine(where: Where, run: Prepared) -> Any:
    if where.engine == "local":
        from orchestrator.local_engine import LocalEngine

        return LocalEngine()
    try:
        from orchestrator.ray_engine import RayEngine
    except ModuleNotFoundError as error:
        raise WrongInput(f"--engine ray needs {error.name}, which is not installed; --engine local runs without it") from error
    return RayEngine(run.request.store, where.address, run.settings["training.workers"])
