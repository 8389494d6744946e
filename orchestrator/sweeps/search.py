"""Which settings the trials of a sweep try, by Ray Tune's variants and searchers.

They are asked here. Tune's own Tuner starts a process for each trial, which could only wait for the stages that this one runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from ray import tune
from ray.tune.search.variant_generator import generate_variants

from imagesets.errors import WrongInput
from orchestrator.sweeps.axes import Axis
from orchestrator.sweeps.sweep import Sweep
from orchestrator.sweeps.trial import metric_of
from training.randomness import seed_of

DRAWS = 20  # of a searcher, until it names settings that no trial has had

Config = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """A trial that has ended: its settings and its score, None where it was stopped early."""

    values: Config
    score: float | None


class Search(Protocol):
    """Names the settings of one trial after the other; `learns` where the scores of earlier trials matter to it."""

    learns: bool

    def next(self, begun: Sequence[Config], known: Sequence[Known]) -> Config | None:
        """The settings after those that are `begun`, None where there are no more."""


class Drawn:
    """Settings that no score changes: `times` draws of what has a distribution, each for all combinations of listed values.

    Without a `grid` the listed values are drawn as well.
    """

    learns = False

    def __init__(self, axes: Sequence[Axis], times: int, random_seed: int, grid: bool):
        state = np.random.RandomState(random_seed)
        space = {axis.name: _drawn(axis) if axis.distribution or not grid else _every(axis) for axis in axes}
        variants = [variant for _ in range(times) for _, variant in generate_variants(space, random_state=state)]
        self.points = [_decoded(axes, variant) for variant in variants]

    def next(self, begun: Sequence[Config], known: Sequence[Known]) -> Config | None:
        """The next one of the list."""
        return self.points[len(begun)] if len(begun) < len(self.points) else None


class Optuna:
    """Settings that Optuna expects to score well, from what is known (a tree-structured Parzen estimator).

    Nothing is carried from one trial to the next: each is asked of a searcher of its own, seeded by the trial's number and told
    what is known. So a sweep that was killed goes on as it would have.
    """

    learns = True

    def __init__(self, axes: Sequence[Axis], times: int, random_seed: int, better: str):
        require_optuna()
        self.axes, self.times, self.random_seed = axes, times, random_seed
        self.mode = "max" if better == "higher" else "min"

    def next(self, begun: Sequence[Config], known: Sequence[Known]) -> Config | None:
        """New settings, None once the budget is spent or none are left that differ."""
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


def search_of(sweep: Sweep) -> Search:
    """What names the settings of a sweep's trials. Raises WrongInput where that is not installed."""
    if sweep.learns:
        return Optuna(sweep.axes, sweep.trials, sweep.request.random_seed, metric_of(sweep.by).better)
    return Drawn(sweep.axes, sweep.trials, sweep.request.random_seed, sweep.search == "grid")


def require_optuna() -> None:
    """Raise WrongInput where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise WrongInput("--search optuna needs optuna, which is not installed: pip install 'wsss-orch[search]'")


def _every(axis: Axis) -> Any:
    return tune.grid_search(list(range(len(axis.values))))


def _drawn(axis: Axis) -> Any:
    """What Tune draws of an axis: a number, or the place of a value in its list, since values may be lists themselves."""
    return getattr(tune, axis.distribution)(*axis.bounds) if axis.distribution else tune.choice(list(range(len(axis.values))))


def _decoded(axes: Sequence[Axis], drawn: Any) -> Config:
    return {axis.name: float(drawn[axis.name]) if axis.distribution else axis.values[drawn[axis.name]] for axis in axes}


def _encoded(axes: Sequence[Axis], values: Config) -> Config:
    return {axis.name: values[axis.name] if axis.distribution else axis.values.index(values[axis.name]) for axis in axes}
