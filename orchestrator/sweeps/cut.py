"""The best of settings and threshold together, of a sweep that varied both: what makes it, and what it does not change."""

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
    setting: str  # that makes the threshold the fixed one
    cutting: Sequence[str]  # the stages that cut by it, beside evaluations
    without: Sequence[str]  # what is scored later and does not depend on it

    def verdict(self) -> str:
        """What is best, the words that make it, and what the threshold does not change."""
        about, metric = self.row.about, scores.main_metric(self.row.about["quantity"])
        given = {**self.trial.values, self.setting: self.threshold}
        words = " ".join(f"--set {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in given.items())
        many = scores.quantities()[about["quantity"]].many
        score = f"{numbers.in_words(self.value, metric)} of {many} on {about['split']}"
        told = f"best of settings and threshold together: {words}, {score}"
        chosen = f"{told} (n={len(self.row.runs)}); chosen on those masks likewise"
        if self.cutting:
            return f"{chosen}; {self.setting} also changes {' and '.join(self.cutting)} and what is made of it"
        untouched = f", not the {' and '.join(self.without)}" if self.without else ""
        return f"{chosen}; {self.setting} changes this score alone{untouched}"


def cut_of(trials: Sequence[Trial], store: Store) -> Cut | None:
    """The best over all trials, None where nothing was scored over thresholds."""
    points = [(trial, *best) for trial in trials if (best := best_threshold(trial)) is not None]
    if not points:
        return None
    row = points[0][0].cut
    assert row is not None  # where there is a best threshold
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
