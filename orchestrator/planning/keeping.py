"""Which stages of an expression a run keeps: those behind the segmentation and the scores. Nothing named is dropped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning import choosing, scores
from orchestrator.planning.capabilities import can_score
from orchestrator.planning.components import Component
from orchestrator.planning.in_place import IMPORTED, wanted
from orchestrator.planning.receiving import full_names, received
from orchestrator.planning.recipe import Recipe
from orchestrator.planning.stage import Stage, leading_to

# the role whose scores are made only if the user names a list for it; they are then made of unnamed components too
ASKED = "classification"


def kept(stages: Sequence[Stage], chain: Sequence[Component], last_import: int, settings: Mapping[str, Any]) -> list[Stage]:
    """The stages behind the segmentation and the scores; each scored stage is followed by its choices and its evaluations.

    A scored stage of a named component counts, unless an import has replaced the stages that would have read it.
    """
    named = {IMPORTED, *_named(chain)}
    scored = [stage for stage in stages[max(last_import, 0) :] if stage.recipe.scored and stage.component in named]
    ends = [stages[-1], *scored, *(choice for stage in scored for choice in choosing.of(stage, stages))]
    there = {stage.name for stage in leading_to(ends)}
    behind = [stage for stage in stages if stage.name in there]
    found = []
    for stage in behind:
        if not stage.recipe.chooses:
            choices = choosing.of(stage, behind)
            made = evaluations(stage, settings, choices)
            found += [stage, *choices, *(score for score in made if stage.component in named or score.recipe.list == ASKED)]
    if settings[f"images.{ASKED}"] and not any(stage.recipe.list == ASKED for stage in found):
        raise WrongInput(f"images.{ASKED}={settings[f'images.{ASKED}']} is idle: no network of this run classifies images")
    return found


def evaluations(stage: Stage, settings: Mapping[str, Any], choices: Iterable[Stage] = ()) -> Iterator[Stage]:
    """The scores of a stage, for each of its quantities, each recipe that scores the quantity, and each list.

    `choices` are the stages that choose settings of it.
    """
    for quantity in scores.of_stage(stage.recipe):
        for owner, recipe in scores.stages(quantity):
            if not can_score(recipe, stage):
                continue
            name = f"{stage.name}{_suffix(stage, owner, quantity)}-score"
            inputs = {recipe.reads[0]: stage}
            purpose = f"{owner.name}-{recipe.name}"
            score = Stage(name, stage.component, purpose, recipe, "", {}, {}, inputs, scores=quantity)
            yield from _on_lists(score, owner, settings, choices)


def _suffix(stage: Stage, owner: Recipe, quantity: str) -> str:
    """The part of a score's name that says which recipe and quantity it has.

    It is empty for the stage's own quantity by the recipe that declares it.
    """
    if quantity != stage.recipe.scored:
        return f"-{owner.name}-{quantity}"
    return "" if quantity in owner.quantities else f"-{owner.name}"


def _on_lists(score: Stage, owner: Recipe, settings: Mapping[str, Any], choices: Iterable[Stage]) -> Iterator[Stage]:
    """A score on every list of its quantity and on the list on which settings are chosen; one that is asked for, on its list."""
    owned = full_names(owner.name, score.recipe.settings, score.inputs, settings)
    words = choosing.words(owned, settings)
    inputs = {**score.inputs, **{choice.recipe.writes: choice for choice in choices if choice.recipe.writes in words}}
    lists, selection = settings[f"images.{score.recipe.list}"], settings["images.selection"]
    named = [lists] if score.recipe.list == ASKED else [*lists, selection]
    for number, list_name in enumerate(dict.fromkeys(filter(None, named))):
        name = f"{score.name}{f'-{list_name}' if number else ''}"
        yield replace(score, name=name, list_name=list_name, inputs=inputs, **received(owned, settings))


def check_nothing_is_dropped(stages: Sequence[Stage], chain: Sequence[Component], settings: Mapping[str, Any]) -> None:
    """Raise WrongInput if a named component or an import would have no part in the run."""
    kept = {stage.recipe.name for stage in stages if stage.component == IMPORTED}
    for part in wanted(settings):
        if part.name not in kept:
            raise WrongInput(f"no stage of this run would read {IMPORTED}.{part.name}; leave it out")
    if kept:
        return  # an import leaves out the stage that it replaces, and the stages that only this stage needs
    refiners = [component.recipe.name for component in chain if component.recipe.kind == "refiner"]
    for first, second in pairwise(refiners):
        if not any(stage.component == second and first in _sources(stage) for stage in stages):
            raise WrongInput(f"{second} cannot refine the result of {first}; leave one of the two out, or change their order")
    there = set().union(*(stage.components for stage in stages))
    if idle := [name for name in _named(chain) if name not in there]:
        raise WrongInput(f"{idle[0]} has no part in this run: no stage reads what it makes; leave it out")


def _named(chain: Sequence[Component]) -> list[str]:
    """The components that the expression names, with their add-ons."""
    return [recipe.name for part in chain for recipe in ((part.recipe,) if part.named else ()) + part.add_ons]


def _sources(stage: Stage) -> set[str]:
    """The components that a stage reads directly."""
    return {source.component for source in stage.inputs.values()}
