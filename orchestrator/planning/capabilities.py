"""Capabilities: a recipe says what its stages provide and what they require."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from imagesets.errors import WrongInput
from orchestrator.planning.recipe import AddOn, StageRecipe
from orchestrator.planning.recipes import load_all

if TYPE_CHECKING:
    from orchestrator.planning.stage import Stage


def check_requirements(
    component: str, owner: str, recipe: StageRecipe, inputs: Mapping[str, "Stage"], settings: Mapping[str, Any]
) -> None:
    """Raise WrongInput if something that a stage reads or names does not provide what the stage requires.

    A requirement is on a word that the stage reads, or on a setting whose value names an entry of a table: `backbone.name`, or
    `network.backbone`, the architecture of a network that the stage reads.
    """
    for name, wanted in recipe.requires.items():
        if name in inputs:
            source, why = inputs[name], _why_read(recipe, name)
            _refuse_missing(component, wanted, source.recipe.provides, f"the {name} of {source.component}", why)
        elif (full := _setting(name, owner, inputs, settings)) in settings:
            value = settings[full]
            _refuse_missing(component, wanted, provided_by_entry(value), f"{full}={value}")


def _setting(name: str, owner: str, inputs: Mapping[str, "Stage"], settings: Mapping[str, Any]) -> str:
    """The full name of the setting that a requirement is on."""
    prefix, dot, own = name.partition(".")
    if prefix not in inputs:
        return name if dot else f"{owner}.{name}"
    writer = inputs[prefix].in_place_of or inputs[prefix].component
    full = f"{writer}.{own}"  # a network with an architecture of its own (spatial-bce) has a setting for it
    return full if full in settings else f"{own}.name"


def can_score(score: StageRecipe, scored: "Stage") -> bool:
    """Whether what a stage writes provides what a score requires of it."""
    return set(score.requires.get(scored.recipe.writes, ())) <= set(scored.recipe.provides)


def check_add_on(name: str, add_on: AddOn, component: str, recipe: StageRecipe, settings: Mapping[str, Any]) -> None:
    """Raise WrongInput if the training of `component` cannot carry the add-on called `name`."""
    source = f"the training of {component}"
    _refuse_missing(name, add_on.requires, recipe.provides, source)
    for capability, when in add_on.requires_if.items():
        if when.items() <= settings.items():
            _refuse_missing(name, [capability], recipe.provides, source, _because("needed", when))


def _why_read(recipe: StageRecipe, word: str) -> str:
    """The settings that make a stage read an optional word."""
    return _because("read", recipe.reads_if.get(word, {}))


def _because(what: str, when: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name}={value}" for name, value in when.items())
    return f"; it is {what} because {values}" if values else ""


def _refuse_missing(reader: str, wanted: Iterable[str], provided: Iterable[str], source: str, why: str = "") -> None:
    if missing := [capability for capability in wanted if capability not in provided]:
        has = ", ".join(provided) or "nothing of the kind"
        raise WrongInput(f"{reader} needs {' and '.join(missing)}, which {source} does not provide; it provides {has}{why}")


def provided_by_entry(value: str) -> tuple[str, ...]:
    """The capabilities of an entry of a table, such as a backbone."""
    return next((recipe.provides for recipe in load_all().values() if value in recipe.table), ())
