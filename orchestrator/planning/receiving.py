"""The settings that a stage receives: those that its recipe lists, and nothing else."""

from collections.abc import Iterable, Mapping
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.recipes import entries, load_all
from orchestrator.planning.stage import Stage


def full_names(
    owner: str, listed: Iterable[str], inputs: Mapping[str, Stage], settings: Mapping[str, Any], reader: str = ""
) -> dict[str, str]:
    """The full name of each setting that a stage lists, by its name in the stage; "" for a setting that it does without.

    `owner` declares the stage, and `reader` is the component that it is a stage of, if that is another.
    A stage's own settings have their bare name; shared settings and settings of a word's writer have a prefix. A stage does
    without `name?` if there is no such setting, and without `word.name?capability` if it does not read the word, or if the word
    has that capability.
    """
    names: dict[str, str] = {}
    for entry in listed:
        name, optional, without = entry.partition("?")
        prefix, dot, own = name.partition(".")
        if own == "*":
            names |= {full: full for each in load_all()[prefix].settings if (full := f"{prefix}.{each}") in settings}
            continue
        writer = inputs[prefix].in_place_of or inputs[prefix].component if prefix in inputs else prefix
        full = f"{writer}.{own}" if dot else f"{owner}.{name}"
        idle = _does_without(inputs.get(prefix), without) if without else optional and full not in settings
        if not idle and full not in settings and prefix in inputs:
            if without and inputs[prefix].in_place_of:
                lacking = f"they hold no {without}, and {writer} has no setting {own!r} to find it with; a method such as cam has"
                raise WrongInput(f"{reader or owner} cannot read files of {prefix} in place of {writer}'s: {lacking}")
            raise WrongInput(f"{reader or owner} cannot work on {writer}, which has no setting {own!r}")
        names[name] = "" if idle else full
    return names


def _does_without(writer: Stage | None, capability: str) -> bool:
    """Whether a stage needs no setting that stands in for a `capability`: no `writer` is read, or what it writes has that."""
    return writer is None or capability in writer.recipe.provides


def received(owned: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stage that hold its settings; a setting that names an entry of a table becomes that entry."""
    values = {name: settings[full] if full else None for name, full in owned.items()}
    tables = {name: _table(full) for name, full in owned.items()}
    names = {name: value for name, value in values.items() if isinstance(value, str) and value in tables[name]}
    return {
        "settings": {**values, **{name: tables[name][value] for name, value in names.items()}},
        "owned": owned,
        "names": names,
    }


def _table(setting: str) -> Mapping[str, Any]:
    """The entries that the values of a setting ("owner.name") can name, if it names entries."""
    owner, _, name = setting.partition(".")
    recipe = load_all().get(owner)
    return entries(recipe.settings[name].choices_from) if recipe and name in recipe.settings else {}
