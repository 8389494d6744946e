"""One trial of a sweep: its runs, their scores, its best threshold; and the best of all trials and thresholds together."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from orchestrator.planning import scores
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading import numbers
from orchestrator.reading.runs import FinishedRun
from orchestrator.reading.summary import Group, Row, Scored, Spread
from orchestrator.storage.store import Store


@dataclass(frozen=True)
class Trial:
    """The values of one trial, and its runs."""

    values: Mapping[str, Any]
    group: Group

    @cached_property
    def last(self) -> Mapping[Scored, Row]:
        """The final row of each quantity on each list."""
        return self.group.last()

    @property
    def names(self) -> list[str]:
        """The names of its scores, such as seg.miou/val."""
        return [scores.metric_name(quantity, name, split) for (quantity, split), row in self.last.items() for name in row.scores]

    def score(self, name: str) -> Spread | None:
        """The spread of `seg.miou/val` over the trial's runs, None if there is none."""
        quantity, metric, split = parts(name)
        row = self.last.get((quantity, split))
        return row.scores.get(metric) if row else None

    @property
    def cut(self) -> Row | None:
        """The row that was scored over a range of thresholds, on the list on which thresholds are chosen."""
        rows = [row for row in self.last.values() if "curve" in row.about]
        return max(rows, key=lambda row: row.about["chooses"], default=None)


def told(values: Mapping[str, Any]) -> str:
    """The settings of a trial in words."""
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in values.items())


def parts(name: str) -> tuple[str, str, str]:
    """The quantity, metric and list of a score such as `seed.miou/train`."""
    quantity, _, rest = name.partition(".")
    metric, _, split = rest.partition("/")
    return quantity, metric, split


def metric_of(name: str) -> Metric:
    """The metric of a score; an `oracle` is of the main metric."""
    quantity, metric, _ = parts(name)
    return scores.metrics([quantity]).get(metric) or scores.main_metric(quantity)


def better(value: float, metric: Metric) -> float:
    """A number that is higher for a better `value`."""
    return value if metric.better == "higher" else -value


def best_threshold(row: Row) -> tuple[float, float] | None:
    """The best threshold of the main metric's mean curve over a trial's runs, and its value there: an oracle.

    Only thresholds that all runs have count; one that a run has chosen for itself may be none of the others'.
    """
    name, metric = scores.main(row.about["quantity"]), scores.main_metric(row.about["quantity"])
    curves = [dict(zip(run["curve"]["threshold"], run["curve"][name], strict=True)) for run in row.runs.values()]
    everywhere = [threshold for threshold in curves[0] if all(curve.get(threshold) is not None for curve in curves)]
    points = [(threshold, fmean(curve[threshold] for curve in curves)) for threshold in everywhere]
    return max(points, key=lambda point: better(point[1], metric), default=None)


@dataclass(frozen=True)
class Cut:
    """The best combination of a trial's settings and a threshold, if a sweep varied both."""

    trial: Trial
    row: Row
    threshold: float
    value: float  # of the main metric, mean over the trial's runs
    setting: str  # the setting that makes the threshold the fixed one
    cutting: Sequence[str]  # the stages that use it, beside evaluations
    without: Sequence[str]  # later quantities that do not depend on it

    def verdict(self) -> list[str]:
        """Sentences on the best combination, with its `--set` words, and on what the threshold changes."""
        about, metric = self.row.about, scores.main_metric(self.row.about["quantity"])
        given = {**self.trial.values, self.setting: self.threshold}
        words = " ".join(f"--set {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in given.items())
        many = scores.quantities()[about["quantity"]].many
        score = f"{numbers.in_words(self.value, metric)} of {many} on {about['split']}"
        told = f"best of settings and threshold together, chosen on the same masks: {words}, {score} (n={len(self.row.runs)})"
        if self.cutting:
            return [told, f"{self.setting} also changes {' and '.join(self.cutting)} and what depends on it"]
        untouched = f", not the {' and '.join(self.without)}" if self.without else ""
        return [told, f"{self.setting} changes only this score{untouched}"]


def cut_of(trials: Sequence[Trial], store: Store) -> Cut | None:
    """The best over all trials; None if nothing was scored over thresholds."""
    points = [(trial, row, *best) for trial in trials if (row := trial.cut) and (best := best_threshold(row))]
    if not points:
        return None
    quantity = points[0][1].about["quantity"]
    metric = scores.main_metric(quantity)
    trial, row, threshold, value = max(points, key=lambda point: better(point[3], metric))
    run = FinishedRun(trial.group.first["run"], store, dict(trial.group.first))
    source = run.stages[row.about["stage"]]
    setting = f"{source.in_place_of or source.component}.{scores.quantities()[quantity].threshold}"
    cutting = [stage.name for stage in run.stages.values() if not stage.scores and setting in stage.owned.values()]
    names = list(run.stages)
    later = dict.fromkeys(run.stages[name].scores for name in names[names.index(source.name) :])
    others = [scores.quantities()[name].many for name in later if name not in ("", quantity)]
    return Cut(trial, row, threshold, value, setting, cutting, others)
