"""The best combination of settings and threshold of a sweep that varied both: its `--set` words, and what it changes."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.planning import scores
from orchestrator.reading import numbers
from orchestrator.reading.runs import FinishedRun
from orchestrator.reading.summary import Row
from orchestrator.storage.store import Store
from orchestrator.sweeps.trial import Trial, best_threshold, better


@dataclass(frozen=True)
class Cut:
    """A trial and a threshold."""

    trial: Trial
    row: Row
    threshold: float
    value: float  # of the main metric, mean over the trial's runs
    setting: str  # the setting that makes the threshold the fixed one
    cutting: Sequence[str]  # the stages that use it, beside evaluations
    without: Sequence[str]  # later quantities that do not depend on it

    def verdict(self) -> str:
        """The best combination, its `--set` words, and what the threshold does not change."""
        about, metric = self.row.about, scores.main_metric(self.row.about["quantity"])
        given = {**self.trial.values, self.setting: self.threshold}
        words = " ".join(f"--set {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in given.items())
        many = scores.quantities()[about["quantity"]].many
        score = f"{numbers.in_words(self.value, metric)} of {many} on {about['split']}"
        told = f"best of settings and threshold together: {words}, {score}"
        chosen = f"{told} (n={len(self.row.runs)}); also chosen on those masks"
        if self.cutting:
            return f"{chosen}; {self.setting} also changes {' and '.join(self.cutting)} and what depends on it"
        untouched = f", not the {' and '.join(self.without)}" if self.without else ""
        return f"{chosen}; {self.setting} changes only this score{untouched}"


def cut_of(trials: Sequence[Trial], store: Store) -> Cut | None:
    """The best over all trials; None if nothing was scored over thresholds."""
    points = [(trial, *best) for trial in trials if (best := best_threshold(trial)) is not None]
    if not points:
        return None
    row = points[0][0].cut
    assert row is not None  # trials that have a best threshold
    quantity = row.about["quantity"]
    metric = scores.main_metric(quantity)
    trial, threshold, value = max(points, key=lambda point: better(point[2], metric))
    chosen = trial.cut
    assert chosen is not None
    run = FinishedRun(trial.group.first["run"], store, dict(trial.group.first))
    source = run.stages[chosen.about["base"]]
    setting = f"{source.in_place_of or source.component}.{scores.quantities()[quantity].threshold}"
    stages = [stage for stage in run.stages.values() if not stage.scores]
    cutting = [stage.name for stage in stages if setting in stage.owned.values()]
    names = list(run.stages)
    later = dict.fromkeys(run.stages[name].scores for name in names[names.index(source.name) :])
    others = [scores.quantities()[name].many for name in later if name not in ("", quantity)]
    return Cut(trial, chosen, threshold, value, setting, cutting, others)
