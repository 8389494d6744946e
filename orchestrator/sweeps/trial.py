"""One trial of a sweep: its runs, their scores, and its best threshold."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from orchestrator.planning import scores
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.summary import Group, Row, Scored, Spread


@dataclass(frozen=True)
class Trial:
    """The values of one trial, its runs, and their final rows."""

    values: Mapping[str, Any]
    group: Group
    last: Mapping[Scored, Row]

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


def best_threshold(trial: Trial) -> tuple[float, float] | None:
    """The best threshold of the main metric's mean curve over a trial's runs, and its value there: an oracle."""
    row = trial.cut
    if row is None:
        return None
    name, metric = scores.main(row.about["quantity"]), scores.main_metric(row.about["quantity"])
    curves = [run["curve"] for run in row.runs.values()]
    columns = zip(curves[0]["threshold"], *(curve[name] for curve in curves), strict=True)
    points = [(threshold, fmean(values)) for threshold, *values in columns if None not in values]
    return max(points, key=lambda point: better(point[1], metric), default=None)
