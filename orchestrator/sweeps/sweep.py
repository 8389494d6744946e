"""A sweep: one experiment for several values of some settings, each repeated for several random seeds.

The trials are ordinary runs in the store; `<store>/sweeps/<name>/sweep.json` lists them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput, refuse
from orchestrator.planning import scores
from orchestrator.planning.experiment import Experiment, Request, experiment, room_of, settings_given
from orchestrator.planning.images import images_name
from orchestrator.planning.nearest import nearest
from orchestrator.planning.prepared import name_in_store
from orchestrator.planning.refusals import effective, problems
from orchestrator.planning.settings import parse_assignments
from orchestrator.planning.stage import narrowed
from orchestrator.planning.workers import dividing
from orchestrator.sweeps.axes import THRESHOLD, Axis
from orchestrator.sweeps.trial import parts

THRESHOLDS = "evaluation.thresholds"  # the setting that a range of thresholds sets
SEARCHES = ("grid", "random", "optuna")
PROBES = 1000  # the most combinations of values that are all tested before a sweep begins
STOPS = ("", "loss", "score")  # by what trials are stopped early; "": not at all


@dataclass(frozen=True)
class Sweep:
    """The varied settings, the search, the random seeds, and the last stage.

    `thresholds` is the range of the seeds' thresholds, `trials` the number of draws, `by` the score that orders the trials
    and guides a search that learns.
    """

    request: Request
    axes: Sequence[Axis]
    thresholds: tuple[float, float, float] | None
    random_seeds: Sequence[int]
    trials: int = 1
    until: str = ""
    search: str = "grid"
    by: str = ""
    stop_early: str = ""

    @property
    def name(self) -> str:
        """Method, image set, and a hash of everything except the budget, so a larger budget continues the sweep."""
        request = self.request
        what = (request.images, request.segmenter, request.recipe, request.assignments, self.axes, self.thresholds)
        how = (self.search, self.by if self.learns else "", self.stop_early)
        also = (tuple(self.random_seeds), self.until, str(request.exclude), how)
        return name_in_store(request.method, self.images, (what, also))

    @cached_property
    def images(self) -> str:
        """The name of the image set."""
        return images_name(self.request.images, settings_given(self.request))

    @property
    def learns(self) -> bool:
        """Whether the scores of earlier trials decide the next settings."""
        return self.search == "optuna"

    @property
    def folder(self) -> Path:
        """The folder of the sweep's list of trials, log and page."""
        return self.request.store / "sweeps" / self.name

    def experiment(self, values: Mapping[str, Any]) -> Experiment:
        """The experiment of one trial, for the first random seed."""
        given = {THRESHOLDS: list(self.thresholds), **values} if self.thresholds else values
        return experiment(
            replace(self.request, assignments=self._assigned(given), random_seed=self.random_seeds[0], room=self.room)
        )

    @property
    def probed(self) -> Iterator[dict[str, Any]]:
        """Values of trials that test every combination, or in a very large grid every value."""
        if prod(len(axis.probes) for axis in self.axes) > PROBES:
            return ({axis.name: value} for axis in self.axes for value in axis.probes)
        names = [axis.name for axis in self.axes]
        return (dict(zip(names, values, strict=True)) for values in product(*(axis.probes for axis in self.axes)))

    @cached_property
    def room(self) -> int:
        """The number of workers that divides the batches of every trial, so that shared stages are made once."""
        wanted = [replace(self.request, assignments=self._assigned(values)) for values in self.probed]
        stages = [stage for request in wanted for stage in experiment(request).stages]
        return dividing(stages, room_of(self.request))

    def _assigned(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        return (*self.request.assignments, *(f"{name}={json.dumps(value)}" for name, value in values.items()))

    def check(self) -> None:
        """Refuse settings that do not exist or do not take a value, and a score that no stage makes, before anything runs."""
        found = self._misused()
        for axis in self.axes:
            if axis.name.startswith("images."):
                found.append(f"{axis.name} cannot be varied: a sweep has one image set; launch such runs and compare them")
            for value in axis.probes:
                try:
                    experiment(replace(self.request, assignments=self._assigned({axis.name: value})))
                except WrongInput as error:
                    found.append(str(error))
        if self.thresholds and not found and not self._cuts_maps():
            found.append(f"{THRESHOLD} cannot be varied: no stage of {self.request.method} makes maps that a threshold cuts")
        if found or (found := self._unread()):
            raise WrongInput("; ".join(dict.fromkeys(found)))
        self._check_metric()

    def _cuts_maps(self) -> bool:
        """Whether a scored stage of the sweep has a threshold; maps with a background of their own have none."""
        scored = [stage for stage in self.experiment({}).stages if stage.scores]
        names = {quantity: f".{about.threshold}" for quantity, about in scores.quantities().items() if about.threshold}
        return any(
            full.endswith(names[stage.scores]) for stage in scored if stage.scores in names for full in stage.owned.values()
        )

    def _unread(self) -> list[str]:
        """A sentence for each varied setting that no trial reads: its trials would all be the same."""
        wanted = [self.experiment(values) for values in self.probed]
        read = set().union(*(effective(replace(one, stages=narrowed(one.stages, self.until, ""))) for one in wanted))
        where = f"{self.request.method}{f' up to {self.until}' if self.until else ''}"
        told = f"nothing in {where} reads {{}}, so its trials would be equal"
        found = [told.format(axis.name) for axis in self.axes if axis.name not in read]
        if self.thresholds and THRESHOLDS not in read:
            found.append(f"nothing in {where} is scored over thresholds, so {THRESHOLD} cannot be varied")
        return found

    def _misused(self) -> list[str]:
        """What is wrong with the options for searching and stopping."""
        drawn = self.search != "grid" or any(axis.distribution for axis in self.axes)
        assigned = parse_assignments(self.request.assignments)
        varied = [*(axis.name for axis in self.axes), *([THRESHOLDS] if self.thresholds else [])]
        wrong = {
            **{f"--vary and --set both give {name}; give one of them": name in assigned for name in varied},
            f"--search {self.search} is none of {', '.join(SEARCHES)}": self.search not in SEARCHES,
            f"--stop-early {self.stop_early} is neither loss nor score": self.stop_early not in STOPS,
            f"--search {self.search} needs a budget of several trials, such as --trials 20": self.learns and self.trials < 2,
            f"--search {self.search} needs a score, such as --by seg.miou/val": self.learns and not self.by,
            f"--search {self.search} needs a setting to vary": self.search != "grid" and not self.axes,
            "--trials is for draws from uniform(a,b) or loguniform(a,b), and these settings have lists (--search random draws "
            "from lists too)": self.trials > 1 and not drawn,
        }
        return [sentence for sentence, holds in wrong.items() if holds]

    def _check_metric(self) -> None:
        """Refuse a `--by` score, such as seed.miou/train, that no stage of the sweep makes."""
        if not self.by:
            return
        stages = narrowed(self.experiment(next(self.probed, {})).stages, self.until, "")
        scored = {(stage.scores, stage.list_name) for stage in stages if stage.scores}
        quantity, metric, split = parts(self.by)
        if (quantity, split) not in scored:
            there = ", ".join(sorted(f"{quantity}.METRIC/{list_name}" for quantity, list_name in scored)) or "none"
            raise WrongInput(f"--by {self.by} is no score of this sweep, whose scores are: {there}")
        known = (*scores.metrics([quantity]), "oracle")
        if metric not in known:
            raise WrongInput(f"--by {self.by}: {quantity} has no metric {metric!r}{nearest(metric, known)}")

    def by_chance(self, at_once: int) -> list[str]:
        """A sentence on what depends on the speed of the trials if `at_once` run at the same time."""
        if not self.stop_early or at_once == 1:
            return []
        also = f" and what {self.search} tries" if self.learns else ""
        told = f"with --stop-early and --at-once {at_once}, which trials are stopped{also} depends on which trial is faster"
        return [f"{told}; --at-once 1 does the same every time"]

    def refuse(self, counts: Mapping[str, int], further: Sequence[str] = ()) -> None:
        """Raise WrongInput with all problems that would stop a trial.

        `counts` has the number of images of each list; `further` are problems found elsewhere.
        """
        found = [*further]
        for values in self.probed:
            wanted = self.experiment(values)
            found += problems(wanted, narrowed(wanted.stages, self.until, ""), counts)
        refuse(list(dict.fromkeys(found)), f"the sweep of {self.request.method}")
