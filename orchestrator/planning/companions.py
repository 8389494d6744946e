"""Companions: defaults that a component gives to settings of other components, where both are in an expression."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.components import Component
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipe import ADD_ONS, FOLD_ORDER, Recipe, Setting
from orchestrator.planning.recipes import load_all
from orchestrator.planning.settings import checked

NAMED = (*FOLD_ORDER, *ADD_ONS)  # kinds that an expression names; settings of other kinds are there in every run


def given(chain: Sequence[Component]) -> dict[str, tuple[Any, str]]:
    """What the components of an expression give: the full name of a setting -> its default there, and the component's name.

    A component gives to the others of the expression, and to the recipes whose shared stages they use. To an add-on only its
    own network gives. Where two give one setting, the later in the order of the stages wins, and a network over its add-ons.

    Raises WrongInput if any recipe, named or not, gives what does not exist or is out of bounds.
    """
    known = {other.name: other.settings for other in load_all().values() if other.kind not in ("images", "preset")}
    for recipe in load_all().values():
        _check(recipe, known)
    there = {name for part in chain for name in (part.recipe.name, *_used(part.recipe))}
    found: dict[str, tuple[Any, str]] = {}
    for part in chain:
        near = there | {add_on.name for add_on in part.add_ons}
        for giver in (*part.add_ons, part.recipe):
            for other, values in giver.companions.items():
                if other in near or load_all()[other].kind not in NAMED:
                    found |= {f"{other}.{name}": (value, giver.name) for name, value in values.items()}
    return found


def _used(recipe: Recipe) -> Iterator[str]:
    """The recipes whose shared stages a recipe uses."""
    return (stage.use.partition(".")[0] for stage in recipe.stages if stage.use)


def _check(recipe: Recipe, known: Mapping[str, Mapping[str, Setting]]) -> None:
    for other, values in recipe.companions.items():
        where = f"recipe {recipe.name}.yaml gives companions"
        if other not in known or other == recipe.name:
            raise WrongInput(f"{where} to {other!r}, which is no other component{nearest(other, known)}")
        for name, value in values.items():
            if name not in known[other]:
                raise WrongInput(f"{where} to {other}, which has no setting {name!r}{nearest(name, known[other])}")
            try:
                checked(f"{other}.{name}", value, known[other][name])
            except WrongInput as error:
                raise WrongInput(f"{where} to {other}: {error}") from error
