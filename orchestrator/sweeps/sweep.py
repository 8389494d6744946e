"""A sweep: one experiment for every combination of values of some settings, each repeated for several random seeds.

The trials are ordinary runs in the store; `<store>/sweeps/<name>/sweep.json` says which belong together.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput, refuse
from orchestrator.engine.execution import Execution
from orchestrator.engine.running import announced
from orchestrator.planning.launch import (
    Experiment,
    Request,
    experiment,
    images_name,
    name_in_store,
    plan_with,
    repeat,
    settings_given,
)
from orchestrator.planning.refusals import problems
from orchestrator.planning.scores import metric_name
from orchestrator.planning.stage import narrowed
from orchestrator.planning.workers import dividing, room
from orchestrator.reading.results import write_results
from orchestrator.reading.summary import Group, group_of, note_failure, sentence
from orchestrator.storage.store import write_json
from orchestrator.sweeps.axes import THRESHOLD, Axis

FORMAT = 1  # of sweep.json


@dataclass(frozen=True)
class Sweep:
    """What is varied, over which random seeds, up to which stage; `thresholds` is the range that seeds are scored over."""

    request: Request
    axes: Sequence[Axis]
    thresholds: tuple[float, float, float] | None
    random_seeds: Sequence[int]
    trials: int = 1
    until: str = ""

    @property
    def name(self) -> str:
        """Method, image set, and a hash of everything that the sweep is."""
        request = self.request
        what = (request.images, request.segmenter, request.recipe, request.assignments, self.axes, self.thresholds)
        also = (tuple(self.random_seeds), self.trials, self.until, str(request.exclude))
        return name_in_store(request.method, self.images, (what, also))

    @cached_property
    def images(self) -> str:
        """The name of the image set."""
        return images_name(self.request.images, settings_given(self.request))

    @property
    def folder(self) -> Path:
        """Where the sweep keeps its list of trials, its log and its page."""
        return self.request.store / "sweeps" / self.name

    def experiment(self, values: Mapping[str, Any]) -> Experiment:
        """The experiment of one trial, for the first random seed."""
        given = {"evaluation.thresholds": list(self.thresholds), **values} if self.thresholds else values
        return experiment(
            replace(self.request, assignments=self._assigned(given), random_seed=self.random_seeds[0], room=self.room)
        )

    @property
    def probed(self) -> Iterator[dict[str, Any]]:
        """Values of trials that show together what each axis takes."""
        return ({axis.name: value} for axis in self.axes for value in axis.probes)

    @cached_property
    def room(self) -> int:
        """Workers that share the batches of every trial, so that what trials share is made once."""
        wanted = [replace(self.request, assignments=self._assigned(values)) for values in self.probed]
        stages = [stage for request in wanted for stage in experiment(request).stages]
        return dividing(stages, self.request.room or room())

    def _assigned(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        return (*self.request.assignments, *(f"{name}={json.dumps(value)}" for name, value in values.items()))

    def check(self) -> None:
        """Refuse settings that do not exist or do not take a value, before anything runs."""
        found = []
        for axis in self.axes:
            if axis.name.startswith("images."):
                found.append(f"{axis.name} cannot be varied: runs on other images are no sweep; launch and compare them")
            for value in axis.probes:
                try:
                    experiment(replace(self.request, assignments=self._assigned({axis.name: value})))
                except WrongInput as error:
                    found.append(str(error))
        if found:
            raise WrongInput("; ".join(dict.fromkeys(found)))
        drawn = [axis.name for axis in self.axes if axis.distribution]
        if self.trials > 1 and not drawn:
            raise WrongInput("--trials draws so many times from uniform(a,b) or loguniform(a,b); these axes have a grid")

    def check_metric(self, name: str) -> None:
        """Refuse a score to order trials by, such as seed.miou/train, that no stage of the sweep makes."""
        stages = narrowed(self.experiment(next(self.probed, {})).stages, self.until, "")
        scored = {(stage.scores, stage.list_name) for stage in stages if stage.scores}
        if name and (name.partition(".")[0], name.rpartition("/")[2]) not in scored:
            there = ", ".join(sorted(f"{quantity}.METRIC/{list_name}" for quantity, list_name in scored)) or "none"
            raise WrongInput(f"--by {name} is no score of this sweep, whose scores are: {there}")

    def refuse(self, counts: Mapping[str, int]) -> None:
        """Raise WrongInput with all that would stop a stage of some trial; `counts` has the images of each list."""
        found = []
        for values in self.probed:
            wanted = self.experiment(values)
            found += problems(wanted, narrowed(wanted.stages, self.until, ""), counts)
        refuse(list(dict.fromkeys(found)), f"the sweep of {self.request.method}")


class Trials:
    """Runs trials and keeps the list of those that are done; callable from several threads."""

    def __init__(self, sweep: Sweep, execution: Execution):
        self.sweep, self.execution = sweep, execution
        self.lock = threading.Lock()  # planning and the list of trials are one thread's at a time
        self.done: list[dict[str, Any]] = []

    def run(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Bring one trial about and return its mean scores by name, or {"error": why} where no run of it came to its end."""
        told = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in values.items())
        with self.lock:
            wanted = repeat(self.sweep.experiment(values), self.sweep.random_seeds)
            names = [f"{told}, random seed {one.request.random_seed}" if len(wanted) > 1 else told for one in wanted]
            planned = zip(wanted, names, strict=True)
            runs = [plan_with(self.execution.planner, one, name, self.sweep.until) for one, name in planned]
        with announced(runs):
            failures = self.execution.run([run.steps for run in runs])
        made, failed = [], {}
        for run, failure in zip(runs, failures, strict=True):
            if failure is None:
                made.append(write_results(run)[0])
            else:
                note_failure(run.request.store / "runs" / run.run, failure)
                failed[run.request.random_seed] = sentence(failure)
        with self.lock:
            self.done.append({"values": dict(values), "group": runs[0].group, "failed": failed})
            self._write()
        return scores(group_of(made, failed)) if made else {"error": next(iter(failed.values()))}

    def _write(self) -> None:
        sweep = self.sweep
        axes = [{"name": axis.name, "values": list(axis.values), "distribution": axis.distribution} for axis in sweep.axes]
        ordered = sorted(self.done, key=lambda trial: json.dumps(trial["values"]))
        about = {"name": sweep.name, "method": sweep.request.method, "images": sweep.images}
        thresholds = list(sweep.thresholds) if sweep.thresholds else None
        record = {"format": FORMAT, **about, "axes": axes, THRESHOLD: thresholds, "random_seeds": list(sweep.random_seeds)}
        write_json(sweep.folder / "sweep.json", {**record, "trials": ordered})


def scores(group: Group) -> dict[str, float]:
    """Mean scores of what the runs come to: `seg.miou/val`, and with a threshold range `seed.oracle/train`."""
    return {
        metric_name(quantity, metric, split): spread.mean
        for (quantity, split), row in group.last().items()
        for metric, spread in row.scores.items()
    }
