"""Runs one step of a plan: takes a cached result, waits for another launch that makes it, or makes it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.engine.failures import out_of_memory, ran_out
from orchestrator.engine.job import Input, Job, blaming
from orchestrator.engine.progress import Display
from orchestrator.engine.provenance import circumstances
from orchestrator.engine.stage_kinds import Engine, Making
from orchestrator.planning.choosing import with_chosen
from orchestrator.planning.plan import Planner
from orchestrator.planning.planned_stage import PlannedStage, digest_of
from orchestrator.storage.lease import Lease, LeaseLost, try_lease
from orchestrator.storage.place import HISTORY, NETWORK, PROGRESS
from orchestrator.storage.result import Attempt, Result
from orchestrator.storage.trouble import patiently, require
from training.checkpoint import CHECKPOINT
from training.loop import Stopped

POLL = 0.5  # seconds between two looks at a stage that another launch is making
NEVER = threading.Event()  # is never set

T = TypeVar("T")


class Runner:
    """Runs steps on an engine; several threads may call it. `wanted` is that of `Making`."""

    def __init__(self, engine: Engine, planner: Planner, display: Display, wanted: Callable[[Path], bool] = lambda folder: True):
        self.engine, self.planner, self.display = engine, planner, display
        self.making = Making(engine, display, wanted)

    def stop(self) -> None:
        """Ask the running stages to checkpoint and end; a signal handler may call this."""
        self.making.stopping.set()

    def run(self, step: PlannedStage, given_up: threading.Event = NEVER) -> bool:
        """Run a step; returns whether this launch made its result. Waits if the store is absent for a time.

        Raises Stopped if `given_up` is set while another launch makes the step.
        """
        return self._patiently(lambda: self._run(step, given_up))

    def look(self, step: PlannedStage) -> None:
        """Mark the step as cached if its result is finished. Waits if the store is absent for a time."""
        self._patiently(lambda: self._look(step))

    def _look(self, step: PlannedStage) -> None:
        self.planner.look(step)
        if not step.cached:
            require(self.planner.store.root)

    def _patiently(self, do: Callable[[], T]) -> T:
        root = self.planner.store.root
        return patiently(root, blaming(root)(do), self.making.tell, self._pause)

    def _pause(self, seconds: float) -> None:
        self.making.stopping.wait(seconds)
        self.making.check_not_stopping()

    def _run(self, step: PlannedStage, given_up: threading.Event) -> bool:
        told = False
        while True:
            self._look(step)
            if step.cached:
                return False
            self.making.check_wanted(step.folder)
            try:
                if (made := self._try(step)) is not None:
                    return made
            except LeaseLost:
                self.display.say(f"{step.name}: another launch has taken it over")
            if not told:
                self.display.say(f"{step.name}: another launch is making it; waiting")
                told = True
            if given_up.wait(POLL):
                raise Stopped(f"{step.name} is given up")

    def _try(self, step: PlannedStage) -> bool | None:
        """Make the step under its lease; returns whether that was necessary, None if another launch holds the lease."""
        with try_lease(step.folder) as lease:
            if lease is None:
                return None
            self._look(step)  # it may have been finished between the last look and the lease
            if step.cached:
                return False
            self._patiently(lambda: self._make(step, lease))
            self._look(step)
            return True

    def _make(self, step: PlannedStage, lease: Lease) -> None:
        job = self._job(step, lease)
        job.attempt.begin(made=(CHECKPOINT, PROGRESS, NETWORK, HISTORY))
        started = time.monotonic()
        if step.siblings:
            self.display.say(f"{step.name}: {step.taken_over} of its {len(step.items)} images are taken over")
        make = {"train": self.making.train, "map": self.making.map, "copy": self.making.copy}
        try:
            figures = make[step.stage.recipe.kind](job, step.name)
        except Exception as error:
            self.display.give_up(step.name)
            if ran_out(error):
                raise out_of_memory(step.name, step.stage, error) from error
            raise
        job.attempt.commit(self._manifest(step) | _with_shares(step, {**figures, "wall": time.monotonic() - started}))
        job.attempt.remove(CHECKPOINT)  # only now that the result counts
        self.display.finish(step.name, f"{figures['cpu']:.1f} s CPU")

    def _job(self, step: PlannedStage, lease: Lease) -> Job:
        stage = step.stage
        inputs = {}
        for word, source in step.inputs.items():
            recipe = source.stage.recipe
            if recipe.chooses:
                continue  # its result is a setting
            inputs[word] = Input(Result(source.folder), recipe.network, dict(source.stage.settings), recipe.read)
        return Job(
            name=stage.name,
            attempt=Attempt(step.folder, lease.token, digest_of(step.made_from), lease),
            recipe=stage.recipe,
            settings=with_chosen(step),
            random_seed=step.identity["random_seed"],
            purpose=stage.purpose,
            add_ons=tuple(add_on.call for add_on in stage.add_ons.values()),
            classes=self.planner.images.classes,
            items=step.items,
            inputs=inputs,
            siblings=tuple(Result(self.planner.store.folder(stage.name, other.manifest["key"])) for other in step.siblings),
        )

    def _manifest(self, step: PlannedStage) -> dict[str, Any]:
        return {
            "stage": step.stage.name,
            "component": step.stage.component,
            "key": step.key,
            "family": step.family,
            "list": step.stage.list_name,
            "read": step.stage.recipe.read,  # how its maps are read
            "identity": step.identity,
            "names": step.stage.names,
            "made_from": step.made_from,
            "taken_over": {other.manifest["key"]: other.count for other in step.siblings},  # number of images, by result
            "items": len(step.items),
            "finished": time.time(),
            "engine": self.engine.name,
            **circumstances(),
        }


def _with_shares(step: PlannedStage, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of a result, whose seconds count what its siblings spent on the records that were taken over."""
    shares = [(other.manifest, other.count / other.manifest["items"]) for other in step.siblings]
    spent = {name: figures[name] + sum(made[name] * share for made, share in shares) for name in ("wall", "cpu")}
    return {**figures, **spent, "partial": figures.get("partial", False) or any(made.get("partial") for made, _ in shares)}
