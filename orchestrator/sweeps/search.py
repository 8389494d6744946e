"""The settings of a sweep's trials, from Ray Tune's variants and searchers.

This module calls them itself. Tune's Tuner would start a process for each trial, which could only wait for this process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.variant_generator import generate_variants

from imagesets.errors import WrongInput
from orchestrator.sweeps.axes import Axis
from orchestrator.sweeps.sweep import Sweep
from orchestrator.sweeps.trial import metric_of
from training.randomness import seed_of

DRAWS = 20  # times that a searcher is asked for settings that no trial has had

Config = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """A trial that has ended: its settings and its score (None if it was stopped early)."""

    values: Config
    score: float | None


class Drawn:
    """Settings that do not depend on scores: `times` draws from the distributions, each with all combinations of listed values.

    Without `grid` the listed values are drawn too.
    """

    def __init__(self, axes: Sequence[Axis], times: int, random_seed: int, grid: bool):
        state = np.random.RandomState(random_seed % 2**32)  # NumPy takes no larger one
        space = {
            axis.name: tune.grid_search(list(range(len(axis.values)))) if grid and axis.values else _drawn(axis) for axis in axes
        }
        variants = [variant for _ in range(times) for _, variant in generate_variants(space, random_state=state)]
        self.points = [_decoded(axes, variant) for variant in variants]

    def next(self, begun: Sequence[Config], known: Sequence[Known]) -> Config | None:
        """The settings that follow those of the `begun` trials, None if there are no more."""
        return self.points[len(begun)] if len(begun) < len(self.points) else None


class Optuna:
    """Settings that Optuna expects to score well (a tree-structured Parzen estimator on the known trials).

    No state is carried from trial to trial. Each trial has a new searcher, which is seeded by the trial's number and gets all
    known results. A killed sweep therefore continues with the same choices.
    """

    def __init__(self, axes: Sequence[Axis], times: int, random_seed: int, better: str):
        require_optuna()
        self.axes, self.times, self.random_seed = axes, times, random_seed
        self.mode = "max" if better == "higher" else "min"

    def next(self, begun: Sequence[Config], known: Sequence[Known]) -> Config | None:
        """New settings; None if the budget is spent or there are no new settings."""
        tries = range(DRAWS if len(begun) < self.times else 0)
        named = (self._asked(seed_of(self.random_seed, "sweep", len(begun), number) % 2**32, known) for number in tries)
        return next((values for values in named if values not in begun), None)

    def _asked(self, seed: int, known: Sequence[Known]) -> Config:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        search = OptunaSearch(seed=seed)
        search.set_search_properties("score", self.mode, {axis.name: _drawn(axis) for axis in self.axes})
        for trial in known:
            search.add_evaluated_point(_encoded(self.axes, trial.values), trial.score, pruned=trial.score is None)  # type: ignore[arg-type]
        return _decoded(self.axes, search.suggest("next"))


Search = Drawn | Optuna


def search_of(sweep: Sweep) -> Search:
    """The search of a sweep. Raises WrongInput if its package is not installed."""
    if sweep.learns:
        return Optuna(sweep.axes, sweep.trials, sweep.request.random_seed, metric_of(sweep.by).better)
    return Drawn(sweep.axes, sweep.trials, sweep.request.random_seed, sweep.search == "grid")


def require_optuna() -> None:
    """Raise WrongInput if Optuna is not installed."""
    if find_spec("optuna") is None:
        raise WrongInput("--search optuna needs optuna, which is not installed: pip install 'wsss-orch[search]'")


def _drawn(axis: Axis) -> Any:
    """Tune's domain for an axis: a number, or the place of a value in its list (values may be lists themselves)."""
    return getattr(tune, axis.distribution)(*axis.bounds) if axis.distribution else tune.choice(list(range(len(axis.values))))


def _decoded(axes: Sequence[Axis], drawn: Any) -> Config:
    return {axis.name: float(drawn[axis.name]) if axis.distribution else axis.values[drawn[axis.name]] for axis in axes}


def _encoded(axes: Sequence[Axis], values: Config) -> Config:
    return {axis.name: values[axis.name] if axis.distribution else axis.values.index(values[axis.name]) for axis in axes}
