"""Runs the trials of a sweep, several at once."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol

from imagesets.errors import WrongInput
from orchestrator.engine.announced import announced
from orchestrator.engine.execution import Execution
from orchestrator.planning.experiment import repeat
from orchestrator.planning.nearest import nearest
from orchestrator.planning.prepared import Prepared, plan_with
from orchestrator.reading.results import completed, write_results
from orchestrator.reading.summary import group_of, note_failure
from orchestrator.storage.beside import beside
from orchestrator.sweeps.early import Judge
from orchestrator.sweeps.record import Record
from orchestrator.sweeps.search import Config, Known, Search
from orchestrator.sweeps.sweep import Sweep
from orchestrator.sweeps.trial import Trial, told
from training.loop import Stopped

LOOK = 1.0  # seconds between two looks at a trial's early results


class Watcher(Protocol):
    """What hears of the runs of trials."""

    def follow(self, runs: Sequence[Prepared], title: str) -> None:
        """These runs of the trial `title` begin."""

    def deliver(self, runs: Sequence[str]) -> None:
        """These runs, by name, have results."""

    def end(self, runs: Sequence[str], status: str) -> None:
        """These runs ended without results: FAILED or KILLED."""


class Trials:
    """The trials of a sweep, by number; those of earlier commands come first."""

    def __init__(self, sweep: Sweep, execution: Execution, search: Search, at_once: int, watcher: Watcher):
        self.sweep, self.execution, self.search, self.at_once, self.watcher = sweep, execution, search, at_once, watcher
        self.judge = Judge(sweep.stop_early) if sweep.stop_early else None
        self.lock = threading.Lock()  # one thread plans at a time
        self.record = Record(sweep)
        self.begun = 0  # number of trials that this command has begun or continued
        self.ended: dict[int, Known | None] = {}  # None for a failed run

    def run(self) -> None:
        """Run every trial; an exception in one (a request to stop) ends all."""
        running: set[Future] = set()
        with ThreadPoolExecutor(self.at_once) as pool:
            while True:
                while len(running) < self.at_once and (values := self._next()) is not None:
                    running.add(pool.submit(self._run, self.begun, values))
                    self.begun += 1
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for trial in done:
                    if trial.exception():
                        self.execution.runner.stop()
                    trial.result()

    def _next(self) -> Config | None:
        """The settings of the next trial: those of an earlier command if it had begun, else the search's next ones."""
        if self.begun < len(self.record.begun):
            return self.record.begun[self.begun]
        known = self._known(self.begun)
        values = None if known is None else self.search.next(self.record.begun, known)
        if values is not None:
            self.record.begin(values)
        return values

    def _known(self, number: int) -> list[Known] | None:
        """The results that the search gets for a trial's settings; None if it must wait for them.

        They are the results of all trials before the last `at_once`, so they do not depend on which trial is faster. With early
        stopping there is no waiting, and they are the results so far.
        """
        if not self.sweep.learns:
            return []
        told = sorted(self.ended) if self.judge else range(number - self.at_once + 1)
        if any(earlier not in self.ended for earlier in told):
            return None
        return [known for earlier in told if (known := self.ended[earlier]) is not None]

    def _run(self, number: int, values: Config) -> None:
        self.ended[number] = self._outcome(number, values)

    def _outcome(self, number: int, values: Config) -> Known | None:
        """Run or continue a trial; returns what the search learns of it, None if all its runs have failed."""
        runs, before = self._planned(values), self.record.trials.get(number)
        if self.judge and before and before["stopped"]:
            self.judge.hear(number, runs[0].steps)
            return Known(values, None)
        given_up = threading.Event()
        self.watcher.follow(runs, f"{self.sweep.request.method} {told(values)}".rstrip())
        try:
            with announced(runs), self._judged(number, runs, given_up) as reasons:
                failures = self.execution.run([run.steps for run in runs], given_up)
        except Stopped:
            self.watcher.end([run.run for run in runs], "KILLED")
            self.record.end(number, runs[0].group, {}, reasons[0])
            return Known(values, None)
        made = [self._results(run) for run, failure in zip(runs, failures, strict=True) if failure is None]
        failed = {
            run.request.random_seed: self._failed(run, failure) for run, failure in zip(runs, failures, strict=True) if failure
        }
        self.watcher.deliver([results["run"] for results in made])
        self.record.end(number, runs[0].group, failed, "")
        return Known(values, self._score(Trial(values, group_of(made)))) if made else None

    def _results(self, run: Prepared) -> dict[str, Any]:
        """The results of a finished run, which are written too."""
        with self.lock:
            finished = completed(run)
        return write_results(finished)[0]

    def _failed(self, run: Prepared, failure: Exception) -> str:
        """The sentence on a failed run, which is noted in its folder."""
        self.watcher.end([run.run], "FAILED")
        return note_failure(run.folder, failure)

    def _planned(self, values: Config) -> list[Prepared]:
        """The runs of a trial, one per random seed."""
        with self.lock:
            wanted = repeat(self.sweep.experiment(values), self.sweep.random_seeds)
            seeds = [f", random seed {one.request.random_seed}" if len(wanted) > 1 else "" for one in wanted]
            names = [told(values) + seed for seed in seeds]
            planned = zip(wanted, names, strict=True)
            return [plan_with(self.execution.planner, one, name, self.sweep.until) for one, name in planned]

    @contextmanager
    def _judged(self, number: int, runs: Sequence[Prepared], given_up: threading.Event) -> Iterator[list[str]]:
        """Set `given_up` when the trial is to be stopped; yields a list that then holds the reason."""
        if self.judge is None:
            yield []
            return
        judge, steps = self.judge, runs[0].steps
        reasons = list[str]()

        def look() -> bool:
            reason, cached = judge.hear(number, steps), all(step.cached for run in runs for step in run.steps)
            if reason and not cached:  # otherwise no stage is left to stop
                self.execution.display.say(f"stopped early: {steps[-1].run}; {reason}")
                reasons.append(reason)
                given_up.set()
            return not reasons

        try:
            with beside(look, LOOK):
                yield reasons
        finally:
            judge.hear(number, steps)  # for comparison with the others; this trial is at its end

    def _score(self, trial: Trial) -> float:
        """The score for the search, 0 if it uses none."""
        if not self.sweep.learns:
            return 0.0
        if found := trial.score(self.sweep.by):
            return found.mean
        raise WrongInput(f"--by {self.sweep.by}: no trial has this score{nearest(self.sweep.by, trial.names)}")
