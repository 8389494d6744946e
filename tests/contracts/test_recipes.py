"""Tests for every component's recipe and the keys of its stages."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagesets.errors import WrongInput
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipe import Recipe
from orchestrator.planning.recipes import load, load_all
from orchestrator.planning.references import resolve
from orchestrator.planning.settings import declared
from orchestrator.planning.stage import Stage
from tests.contracts.cases import Case, cases_of, components, declared_stages, expressions, plan, switches
from tests.contracts.laboratory import Laboratory
from tests.test_plan import another


def stages_of(recipe: Recipe) -> Iterator[Stage]:
    """The stages of every expression that names the recipe and makes sense: at default settings, on a ResNet-50, at tiny ones.

    A method's own default backbone may lack what a refiner needs.
    """
    ways = (True, ()), (True, ("backbone.name=resnet50",)), (False, ())
    for (expression, segmenter), (at_defaults, further), switch in product(expressions(recipe), ways, switches(recipe)):
        try:
            yield from plan(expression, segmenter, at_defaults, (*further, *switch))
        except WrongInput:
            continue


def waits_for(recipe: Recipe) -> set[str]:
    """The capabilities that a recipe requires of a network and no recipe provides yet."""
    offered = {capability for other in load_all().values() for stage in other.stages for capability in stage.provides}
    wanted = {capability for stage in recipe.stages for capability in stage.requires.get("network", ())}
    return (wanted | set(recipe.adds.requires if recipe.adds else ())) - offered


ROOT = Path(__file__).parents[2]
RECIPES = [pytest.param(recipe, id=recipe.name) for recipe in components()]


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    """A component whose requirements some recipe fulfils."""
    if missing := waits_for(request.param):
        pytest.skip(f"no network provides {' and '.join(sorted(missing))} yet")
    return request.param


@pytest.fixture
def cases(recipe: Recipe) -> tuple[Case, ...]:
    return cases_of(recipe.name)


def keys(prepared: Prepared) -> dict[str, str]:
    return {step.stage.name: step.key for step in prepared.steps}


def test_each_of_its_stages_runs_in_some_expression(recipe: Recipe, cases: tuple[Case, ...]) -> None:
    reached = [case.stage.recipe for case in cases]
    for stage in declared_stages(recipe):
        assert any(stage == other for other in reached), f"no expression runs {recipe.name}-{stage.name}"
    assert not recipe.adds or any(recipe.name in case.stage.add_ons for case in cases)


def test_each_of_its_settings_reaches_a_stage(recipe: Recipe) -> None:
    idle, stages = {f"{recipe.name}.{name}" for name in recipe.settings if name != recipe.after}, stages_of(recipe)
    while idle and (stage := next(stages, None)):  # as few expressions as it takes: there are thousands
        idle -= {*stage.owned.values(), *stage.recipe.if_set}
    assert not idle, f"nothing reads {', '.join(sorted(idle))}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_function_that_it_names_is_there(recipe: Recipe) -> None:
    named = [
        reference
        for stage in (*recipe.stages, *recipe.shared_stages)
        for reference in (
            stage.call,
            stage.network,
            stage.read,
            stage.result,
            stage.resampled,
            stage.confusion,
            stage.check,
            stage.warnings,
        )
    ]
    named += [recipe.adds.call, recipe.adds.check] if recipe.adds else []
    for reference in filter(None, named):
        assert callable(resolve(reference)), reference


def test_stages_that_read_a_network_and_no_others_receive_the_precision_in_which_networks_compute() -> None:
    stages = [stage for recipe in load_all().values() for stage in (*recipe.stages, *recipe.shared_stages) if not stage.use]
    networks = {stage.writes for stage in stages if stage.network}
    for stage in (stage for stage in stages if stage.kind == "map"):
        receives = {"extraction.*", "extraction.precision"} & set(stage.settings)
        assert bool(receives) == bool(networks & {*stage.reads, *stage.reads_if}), stage.call


def test_a_setting_that_no_stage_of_it_reads_changes_no_key(
    laboratory: Laboratory, cases: tuple[Case, ...], tmp_path: Path
) -> None:
    for case in cases:
        before = laboratory.planned(case)
        placing = {f"{other.name}.{other.after}" for other in load_all().values() if other.after}
        others = {
            name: another(setting, before.settings[name], tmp_path)
            for name, setting in declared(load_all()["folder"]).items()
            if name not in {*before.experiment.used, *placing} and not name.startswith(("images.", "imported."))
        }
        after = laboratory.plan(case, 0, *(f"{name}={value}" for name, value in others.items()))
        assert others and keys(after) == keys(before), case.name


def test_another_random_seed_changes_every_key(laboratory: Laboratory, cases: tuple[Case, ...]) -> None:
    for case in cases:
        assert not set(keys(laboratory.planned(case)).values()) & set(keys(laboratory.plan(case, 1)).values()), case.name


def test_every_recipe_reads_the_same_where_pyyaml_was_built_without_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {path: load(path, Any, path.name) for path in sorted((ROOT / "recipes").rglob("*.yaml"))}
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert expected and {path: load(path, Any, path.name) for path in expected} == expected
