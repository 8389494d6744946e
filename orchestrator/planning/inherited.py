"""The values that a preset or an image set gives to a method that it does not name: those that it gives to `cam`.

So a new method runs with `--recipe laptop` and on shapes at once, for example with as few epochs as `cam`.
"""

from collections.abc import Mapping
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.recipes import load_all
from orchestrator.planning.settings import checked

MODEL = "cam"
HEIRS = ("network", "reactivation", "extractor", "relearning")  # the kinds of methods


def with_unnamed_methods(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The `overrides` of a recipe, and cam's values for the methods of which they name no setting.

    A method gets the values of those settings that it shares with cam by name, if they are within its bounds.
    """
    given = {name.removeprefix(f"{MODEL}."): value for name, value in overrides.items() if name.startswith(f"{MODEL}.")}
    named = {name.partition(".")[0] for name in overrides}
    heirs = [recipe for recipe in load_all().values() if recipe.kind in HEIRS and recipe.name not in named]
    found = {
        f"{heir.name}.{name}": value
        for heir in heirs
        for name, value in given.items()
        if name in heir.settings and _fits(value, heir.settings[name])
    }
    return {**found, **overrides}


def _fits(value: Any, setting: Any) -> bool:
    try:
        checked("", value, setting)
    except WrongInput:
        return False
    return True
