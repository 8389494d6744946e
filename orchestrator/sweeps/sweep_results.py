"""What a sweep has found: its trials with their scores, the best one, how that was chosen, and how sensitive the scores are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest
from orchestrator.reading.groups import Runs
from orchestrator.reading.summary import Group, Row, Spread
from orchestrator.storage.store import read_json
from orchestrator.sweeps.axes import THRESHOLD

PREFERRED = ("seg", "pseudo", "seed")


@dataclass(frozen=True)
class Trial:
    """The values of one trial, its runs, and of each quantity the row that they come to."""

    values: Mapping[str, Any]
    group: Group
    last: Mapping[str, Row]

    def score(self, metric: str) -> Spread | None:
        """The spread of `seg.miou/val` over the trial's runs, None where it has none."""
        quantity, _, rest = metric.partition(".")
        name, _, split = rest.partition("/")
        row = self.last.get(quantity)
        return row.scores.get(name) if row and row.about["split"] == split else None


@dataclass(frozen=True)
class Findings:
    """All trials that came to their end, the metric they are ordered by, and the best one first."""

    record: Mapping[str, Any]
    metric: str
    trials: Sequence[Trial]
    failed: Sequence[str]
    stopped: Sequence[Mapping[str, Any]] = ()  # trials of the record that were stopped early: they have no score

    @property
    def names(self) -> list[str]:
        """The settings that vary."""
        return [axis["name"] for axis in self.record["axes"]]

    def verdict(self) -> str:
        """The best setting, by what it was chosen, and what that makes of its score."""
        best = self.trials[0]
        found = best.score(self.metric)
        assert found is not None  # trials without it are not here
        values = ", ".join(f"{name}={value}" for name, value in best.values.items())
        split = self.metric.partition("/")[2]
        told = f"best of {len(self.trials)}: {values} by {self.metric}, {100 * found.mean:.1f} (n={found.n})"
        return f"{told}; chosen on the masks of {split}, so this score is an oracle's: report it on a list that chose nothing"


def findings(runs: Runs, record: Mapping[str, Any], metric: str = "") -> Findings:
    """The findings of a sweep, ordered by `metric`, by default the mIoU of the last thing its runs score."""
    groups = [(trial["values"], trial["failed"], trial["group"]) for trial in record["trials"] if not trial.get("stopped")]
    trials, failed = [], []
    for values, reasons, name in groups:
        told = ", ".join(f"{setting}={value}" for setting, value in values.items())
        failed += [f"{told}, random seed {seed} failed: {reason}" for seed, reason in reasons.items()]
        if len(reasons) < len(record["random_seeds"]):
            group = runs.group(name)
            trials.append(Trial(values, group, {row.about["quantity"]: row for row in group.rows()}))
    if not trials:
        raise WrongInput(f"no trial of the sweep {record['name']} came to its end: {'; '.join(failed) or 'none was begun'}")
    known = _metrics(trials)
    metric = metric or next(f"{quantity}.miou/{split}" for quantity, split in known if quantity == _best_quantity(trials))
    ranked = [trial for trial in trials if trial.score(metric) is not None]
    if not ranked:
        choices = [f"{quantity}.{name}/{split}" for (quantity, split), names in known.items() for name in names]
        raise WrongInput(f"no trial has the score {metric!r}{nearest(metric, choices)}")
    ranked.sort(key=lambda trial: -trial.score(metric).mean)  # type: ignore[union-attr]
    return Findings(record, metric, ranked, failed, [trial for trial in record["trials"] if trial.get("stopped")])


def groups_of(runs: Runs, name: str) -> list[Group]:
    """The group of runs that a name stands for; of a sweep those of its trials, the best first."""
    record = read_sweep(runs.store, name)
    return [trial.group for trial in findings(runs, record).trials] if record else [runs.group(name)]


def read_sweep(store: Path, name: str) -> dict[str, Any] | None:
    """The list of trials of the sweep called `name`, if there is one."""
    return read_json(store / "sweeps" / name / "sweep.json")


def best_threshold(trial: Trial) -> tuple[float, float] | None:
    """Of the mean mIoU curve over a trial's runs the best threshold and its mIoU: an oracle's."""
    row = trial.last.get("seed")
    if row is None:
        return None
    curves = [seed["curve"] for run in trial.group.runs for seed in run["rows"] if _same(seed, row.about)]
    means = [fmean(values) if None not in values else 0.0 for values in zip(*(curve["miou"] for curve in curves), strict=True)]
    return max(zip(curves[0]["threshold"], means, strict=True), key=lambda point: point[1])


def slices(found: Findings) -> dict[str, list[tuple[Any, Trial]]]:
    """Per setting the trials that differ from the best in it alone, by its value: how sensitive the score is there."""
    best = found.trials[0].values
    return {
        name: sorted(
            ((trial.values[name], trial) for trial in found.trials if _without(trial.values, name) == _without(best, name)),
            key=lambda point: (str(type(point[0])), point[0] if isinstance(point[0], (int, float, str)) else str(point[0])),
        )
        for name in found.names
    }


def has_thresholds(found: Findings) -> bool:
    """Whether the sweep was asked for thresholds too."""
    return found.record[THRESHOLD] is not None


def _metrics(trials: Sequence[Trial]) -> dict[tuple[str, str], list[str]]:
    return {(quantity, row.about["split"]): list(row.scores) for trial in trials for quantity, row in trial.last.items()}


def _best_quantity(trials: Sequence[Trial]) -> str:
    return next(quantity for quantity in PREFERRED if any(quantity in trial.last for trial in trials))


def _same(row: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    return (row["quantity"], row["component"]) == (about["quantity"], about["component"])


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in values.items() if other != name}
