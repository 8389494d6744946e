"""Settings with the value `auto`: a stage of the run chooses the number, without masks.

The recipe of that stage names the setting (`chooses`). It follows every stage that writes what it reads and whose component has
the setting at `auto`. A stage that receives such a setting also reads the word of the choice. When the engine makes that stage,
it puts the chosen number in the place of `auto`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.planning.recipe import AUTO, Recipe, StageRecipe
from orchestrator.planning.recipes import load_all

if TYPE_CHECKING:
    from orchestrator.planning.planned_stage import PlannedStage
    from orchestrator.planning.stage import Stage


def after(stage: "Stage", settings: Mapping[str, Any]) -> Iterator[tuple[Recipe, StageRecipe]]:
    """The stages, with their recipes, that choose settings for the readers of what `stage` writes."""
    component = stage.in_place_of or stage.component
    for owner, choice in _choices():
        if choice.reads == (stage.recipe.writes,) and settings.get(f"{component}.{choice.chooses}") == AUTO:
            yield owner, choice


def words(owned: Mapping[str, str], settings: Mapping[str, Any]) -> list[str]:
    """The words of the choices that a stage reads which receives the settings `owned`."""
    asked = {full.rpartition(".")[2] for full in owned.values() if settings.get(full) == AUTO}
    return [choice.writes for _, choice in _choices() if choice.chooses in asked]


def of(stage: "Stage", stages: Iterable["Stage"]) -> list["Stage"]:
    """Those of `stages` that choose settings for the readers of `stage`."""
    return [other for other in stages if other.recipe.chooses and any(source is stage for source in other.inputs.values())]


def with_chosen(step: "PlannedStage") -> dict[str, Any]:
    """The settings of a step whose inputs are made, with the chosen numbers in the place of `auto`."""
    chosen = {choice.stage.recipe.chooses: _number(choice) for choice in step.inputs.values() if choice.stage.recipe.chooses}
    names = {name: full.rpartition(".")[2] for name, full in step.stage.owned.items()}
    return {name: chosen.get(names[name], value) if value == AUTO else value for name, value in step.stage.settings.items()}


def number_for(step: "PlannedStage", steps: Iterable["PlannedStage"]) -> float | None:
    """The number that one of `steps` has chosen for the readers of `step`; None if none has."""
    choices = (other for other in steps if other.stage.recipe.chooses and other.cached)
    return next((_number(choice) for choice in choices if step.key in [source.key for source in choice.inputs.values()]), None)


def _number(choice: "PlannedStage") -> float:
    assert choice.manifest is not None  # readers are made after it
    return choice.manifest["result"]["chosen"]


def _choices() -> Iterator[tuple[Recipe, StageRecipe]]:
    """All stages that choose a setting, with their recipes."""
    return ((recipe, stage) for recipe in load_all().values() for stage in recipe.stages if stage.chooses)
