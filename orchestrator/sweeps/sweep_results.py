"""The results of a sweep: its trials with their scores, the best trial and how it was chosen, and sensitivities."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning import scores
from orchestrator.planning.nearest import nearest
from orchestrator.reading import numbers
from orchestrator.reading.comparison import Comparison, compare
from orchestrator.reading.groups import Runs
from orchestrator.reading.summary import Group, group_of
from orchestrator.storage.place import RECORD
from orchestrator.storage.store import Store, read_json
from orchestrator.sweeps.axes import THRESHOLD
from orchestrator.sweeps.trial import Cut, Trial, better, cut_of, metric_of, parts


@dataclass(frozen=True)
class Findings:
    """All finished trials, the best first, and the metric that orders them."""

    record: Mapping[str, Any]
    metric: str
    trials: Sequence[Trial]
    failed: Sequence[str]
    cut: Cut | None = None  # the best combination of settings and threshold, if the threshold varied
    stopped: Sequence[Mapping[str, Any]] = ()  # trials that were stopped early, which have no score

    @property
    def names(self) -> list[str]:
        """The names of the varied settings."""
        return [axis["name"] for axis in self.record["axes"]]

    @property
    def has_thresholds(self) -> bool:
        """Whether the sweep varied the threshold too."""
        return self.record[THRESHOLD] is not None

    def verdict(self) -> list[str]:
        """Sentences on the best setting, and on the best of settings and threshold together if the threshold varied."""
        told = self._best() if self.names else []  # without an axis there is one trial, and only the threshold to choose
        return [*told, *self.cut.verdict()] if self.cut else told

    def _best(self) -> list[str]:
        best = self.trials[0]
        found = best.score(self.metric)
        assert found is not None  # trials without the score are left out
        values = ", ".join(f"{name}={value}" for name, value in best.values.items())
        score = numbers.told(found.mean, metric_of(self.metric))
        among = f"{len(self.trials)}{f' ({len(self.stopped)} more were stopped early)' if self.stopped else ''}"
        where = parts(self.metric)[2]
        return [
            f"best of {among}: {values} by {self.metric}, {score} (n={found.n})",
            f"this score is an oracle (optimistic: chosen on the same masks, those of {where}); report a score on another list",
        ]


def findings(runs: Runs, record: Mapping[str, Any], metric: str = "") -> Findings:
    """The findings of a sweep, ordered by `metric`, by default the main metric of the last quantity that is scored."""
    stopped = [trial for trial in record["trials"] if trial.get("stopped")]
    trials, failed = [], []
    for trial in (trial for trial in record["trials"] if trial not in stopped):
        told = _assigned(trial)
        failed += [f"{told}, random seed {seed} failed: {reason}" for seed, reason in trial["failed"].items()]
        if len(trial["failed"]) < len(record["random_seeds"]):
            trials.append(Trial(trial["values"], _own(runs, record, trial)))
    if not trials:
        raise WrongInput(f"no trial of the sweep {record['name']} came to its end: {'; '.join(failed) or 'none was begun'}")
    metric = metric or _by_default(trials)
    ranked = [trial for trial in trials if trial.score(metric) is not None]
    if not ranked:
        raise WrongInput(
            f"no trial has the score {metric!r}{nearest(metric, {name for trial in trials for name in trial.names})}"
        )
    ranked.sort(key=lambda trial: better(trial.score(metric).mean, metric_of(metric)), reverse=True)  # type: ignore[union-attr]
    return Findings(record, metric, ranked, failed, cut_of(ranked, Store(runs.store)) if record[THRESHOLD] else None, stopped)


def _own(runs: Runs, record: Mapping[str, Any], trial: Mapping[str, Any]) -> Group:
    """The runs of a trial; launches with the same settings may have made more random seeds."""
    own = {seed: f"{trial['group']}-{seed}" for seed in record["random_seeds"]}
    if gone := [run for seed, run in own.items() if run not in runs.results and str(seed) not in trial["failed"]]:
        told = f"run {gone[0]} of {_assigned(trial) or 'its trial'} is no longer in {runs.store / 'runs'}"
        raise WrongInput(f"sweep {record['name']}: {told}; the command that made the sweep makes it again")
    return group_of((runs.one(run) for run in own.values() if run in runs.results), runs.group(trial["group"]).failed)


def compared(runs: Runs, names: Sequence[str], files: Sequence[Path] = ()) -> Comparison:
    """The comparison of what the names stand for; a sweep stands for its trials, the best first (see `reading.comparison`)."""
    groups, missing = [], list[str]()
    for name in names:
        if record := read_sweep(runs.store, name):
            groups += [trial.group for trial in findings(runs, record).trials]
            missing += _without_scores(record)
        else:
            groups.append(runs.group(name))
    comparison = compare(groups, Store(runs.store), files)
    return replace(comparison, warnings=[*missing, *comparison.warnings])


def _without_scores(record: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each trial that was stopped early or of which every run failed."""
    for trial in record["trials"]:
        if trial.get("stopped"):
            yield f"{record['name']}: {_assigned(trial)} has no scores, because it was stopped early"
        elif len(trial["failed"]) == len(record["random_seeds"]):
            why = next(iter(trial["failed"].values()))
            yield f"{record['name']}: {_assigned(trial)} has no scores, because it failed: {why}"


def _assigned(trial: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in trial["values"].items())


def read_sweep(store: Path, name: str) -> dict[str, Any] | None:
    """The list of trials of the sweep called `name`, if there is one."""
    return read_json(store / "sweeps" / name / RECORD)


def slices(found: Findings) -> dict[str, list[tuple[Any, Trial]]]:
    """For each setting, the trials that differ from the best only in it, by its value: the sensitivity to the setting."""
    best = found.trials[0].values
    return {
        name: sorted(
            ((trial.values[name], trial) for trial in found.trials if _without(trial.values, name) == _without(best, name)),
            key=lambda point: (0, point[0], "") if isinstance(point[0], (int, float)) else (1, 0, str(point[0])),
        )
        for name in found.names
    }


def _by_default(trials: Sequence[Trial]) -> str:
    """The main metric of the last quantity that all trials are scored as, on the list on which settings are chosen."""
    shared = [row for place, row in trials[0].last.items() if all(place in trial.last for trial in trials)]
    if not shared:
        raise WrongInput("nothing of this sweep was scored, so no trial is better than another")
    quantity = shared[-1].about["quantity"]
    row = max((row for row in shared if row.about["quantity"] == quantity), key=lambda row: row.about["chooses"])
    return scores.metric_name(quantity, scores.main(quantity), row.about["split"])


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in values.items() if other != name}
