"""The settings that a sweep tries: all combinations, draws, or Optuna's choices; equal seeds and scores give equal choices."""

import importlib.util
from collections.abc import Callable

import pytest

from imagesets.errors import WrongInput
from orchestrator.sweeps.axes import Axis, parse
from orchestrator.sweeps.search import Config, Drawn, Known, Optuna, Search, require_optuna

LR = parse("irn.lr=loguniform(0.0001,1)")
SCALES = parse("cam.scales=[1.0],[1.0,0.5]")
WEIGHTS = parse("recam.weights=w,product,sum")


def tried(search: Search, score: Callable[[Config], float | None], most: int = 100) -> list[Config]:
    """The settings that a search names, each scored before the next."""
    known: list[Known] = []
    while len(known) < most and (values := search.next([trial.values for trial in known], known)) is not None:
        known.append(Known(values, score(values)))
    return [trial.values for trial in known]


def drawn(*axes: Axis, times: int = 1, random_seed: int = 0, grid: bool = True) -> list[Config]:
    return tried(Drawn(axes, times, random_seed, grid), lambda values: 0.0)


def test_a_grid_holds_every_combination_once_for_each_draw() -> None:
    assert len(drawn(WEIGHTS, SCALES)) == 6
    points = drawn(WEIGHTS, LR, times=2)
    assert [point["recam.weights"] for point in points] == ["w", "product", "sum"] * 2
    assert len({point["irn.lr"] for point in points}) == 6


def test_random_points_are_drawn_from_lists_too_and_are_those_of_the_seed() -> None:
    points = drawn(WEIGHTS, SCALES, LR, times=30, grid=False)
    assert points == drawn(WEIGHTS, SCALES, LR, times=30, grid=False)
    assert points != drawn(WEIGHTS, SCALES, LR, times=30, grid=False, random_seed=1)
    assert len(points) == 30 and {point["recam.weights"] for point in points} == {"w", "product", "sum"}
    assert len(drawn(LR, times=2, random_seed=2**40)) == 2  # a launch takes this seed too
    assert all(point["cam.scales"] in ([1.0], [1.0, 0.5]) and 0.0001 <= point["irn.lr"] <= 1 for point in points)


def test_more_draws_begin_with_the_same_ones() -> None:
    assert drawn(LR, times=9)[:4] == drawn(LR, times=4)


@pytest.mark.parametrize(("better", "best"), [("higher", 0.9), ("lower", 0.1)])
def test_optuna_goes_where_the_scores_are_better(better: str, best: float) -> None:
    axis = parse("cam.dropout=uniform(0,1)")
    points = tried(Optuna([axis], 40, 0, better), lambda values: values["cam.dropout"])
    late = [point["cam.dropout"] for point in points[20:]]
    assert len(points) == 40 and sum(abs(value - best) < 0.25 for value in late) > 14  # of 20; drawn evenly it were about 7


def test_optuna_leaves_the_values_whose_trials_were_stopped() -> None:
    axis = parse("cam.dropout=uniform(0,1)")
    points = tried(Optuna([axis], 60, 0, "higher"), lambda values: None if values["cam.dropout"] > 0.5 else 0.3)
    assert sum(point["cam.dropout"] > 0.5 for point in points[20:]) < 14  # of 40; drawn evenly it were about 20


def test_optuna_names_the_same_settings_for_the_same_seed_and_scores() -> None:
    def points(random_seed: int) -> list[Config]:
        return tried(Optuna([LR, WEIGHTS, SCALES], 15, random_seed, "higher"), lambda values: -values["irn.lr"])

    assert points(0) == points(0) and points(0) != points(1)


def test_optuna_tries_nothing_twice_and_ends_where_nothing_is_left() -> None:
    points = tried(Optuna([WEIGHTS], 10, 0, "higher"), lambda values: 0.0)
    assert sorted(point["recam.weights"] for point in points) == ["product", "sum", "w"]


def test_a_missing_optuna_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.sweeps.search.find_spec", lambda name: None)
    assert importlib.util.find_spec("optuna") is not None  # the one that the project's own tests need
    with pytest.raises(WrongInput, match=r"not installed: pip install 'wsss-orch\[search\]'"):
        require_optuna()
