"""Stops weak trials early: asynchronous successive halving (ASHA, Li et al. 2020) on their early results.

A trial is compared with the trials that have come as far, by the mean loss of a training's epoch or by an earlier score, such
as that of the seeds. The first random seed represents a trial. Losses are comparable only if the varied settings do not
change what the loss is. Only the user knows this, so the user chooses between losses and scores.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from imagesets.errors import WrongInput
from orchestrator.planning import scores
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.storage.place import HISTORY, PROGRESS
from orchestrator.storage.store import read_json

KEPT = 3  # of this number of trials that have come as far, the best one goes on
RUNGS = 12  # epochs 1, 3, 9, ... at which trials are compared: more than any training reaches


@dataclass(frozen=True)
class Result:
    """An early result of a trial: the mean loss of an epoch, or a score."""

    name: str
    epoch: int
    value: float
    better: str  # higher or lower

    @property
    def sentence(self) -> str:
        """Why a trial was stopped."""
        when = f" at epoch {self.epoch}" if self.epoch else ""
        return f"{self.name} {self.value:.3g}{when} is not among the best third"


class Judge:
    """Takes the early results of all trials and decides which trials to stop; several threads may call it."""

    def __init__(self, kind: str):
        self.kind = kind
        self.lock = threading.Lock()
        self.schedulers: dict[str, ASHAScheduler] = {}  # one scheduler per loss or score
        self.heard: set[tuple[int, str, int]] = set()

    def hear(self, number: int, steps: Sequence[PlannedStage]) -> str | None:
        """Add the early results of a trial; returns why it must be stopped, or None."""
        with self.lock:
            refused = [found.sentence for found in results(self.kind, steps) if self._refuses(number, found)]
        return refused[0] if refused else None

    def _refuses(self, number: int, found: Result) -> bool:
        known = (number, found.name, found.epoch)
        if known in self.heard:
            return False
        self.heard.add(known)
        trial = Trial("trial", trial_id=str(number), stub=True)
        scheduler = self.schedulers.setdefault(found.name, _scheduler(found.better))
        scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]  # a Tuner's controller, which ASHA does not use
        told = {"epoch": max(found.epoch, 1), "value": found.value}
        return scheduler.on_trial_result(None, trial, told) == TrialScheduler.STOP  # type: ignore[arg-type]


def results(kind: str, steps: Sequence[PlannedStage]) -> Iterator[Result]:
    """The early results of a run, in order; a stage that waits for another launch has results too."""
    for step in steps:
        if kind == "loss" and step.stage.recipe.kind == "train":
            for row in _history(step):
                losses = [value for name, value in row.items() if name != "epoch"]
                yield Result(f"loss of {step.stage.name}", int(row["epoch"]), sum(losses), "lower")
        if kind == "score" and step.stage.scores and step.manifest:
            quantity = step.stage.scores
            value, metric = step.manifest["result"]["metrics"].get(scores.main(quantity)), scores.main_metric(quantity)
            if value is not None:
                yield Result(f"{metric.title} of {step.stage.name}", 0, value, metric.better)


def check(kind: str, steps: Sequence[PlannedStage]) -> None:
    """Raise WrongInput if the trials of a sweep have no early results."""
    if kind == "score" and sum(bool(step.stage.scores) for step in steps) < 2:
        raise WrongInput(
            "--stop-early score: a trial of this sweep has only one score, at its end; --stop-early loss uses losses"
        )
    if kind == "loss" and not any(step.stage.recipe.kind == "train" for step in steps):
        raise WrongInput("--stop-early loss: no stage of this sweep trains a network")


def _history(step: PlannedStage) -> list[dict[str, float]]:
    """The mean losses of a training's finished epochs; the training may still run or be interrupted."""
    with suppress(OSError):  # the store fails for a moment; the next look will succeed
        if step.cached:
            return json.loads((step.folder / HISTORY).read_text(encoding="utf-8"))
        return (read_json(step.folder / PROGRESS) or {}).get("history", [])
    return []


def _scheduler(better: str) -> ASHAScheduler:
    return ASHAScheduler(
        time_attr="epoch",
        metric="value",
        mode="max" if better == "higher" else "min",
        max_t=KEPT**RUNGS,
        reduction_factor=KEPT,
        stop_last_trials=False,
    )
