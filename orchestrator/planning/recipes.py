"""The recipes: one YAML file per component. They are the only table of what exists; reading them imports no component.

`ls`, `show`, `plan`, `--set` and completion need only the recipes, so they answer at once.
"""

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

import recipes as package
from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipe import Recipe, Reference, Setting

T = TypeVar("T")
OPTIONS = {"segmenter": "--segmenter", "images": "--images", "preset": "--recipe"}  # the option that names a recipe of the kind


@cache
def load_all() -> dict[str, Recipe]:
    """Every recipe of the package by name. A malformed recipe raises WrongInput with the file and the field."""
    paths = sorted(Path(package.__file__).parent.glob("*.yaml"))
    found = [load(path, Recipe, f"recipe {path.name}") for path in paths]
    return {recipe.name: recipe for recipe in found}


@cache
def entries(source: str) -> dict[str, Any]:
    """The table entries, by name, of the recipe called `source` and of all recipes of the kind `source`."""
    tables = [recipe.table for recipe in load_all().values() if source in (recipe.name, recipe.kind)]
    return {name: Reference(entry) if isinstance(entry, str) else entry for table in tables for name, entry in table.items()}


def parts_of(backbone: str = "") -> tuple[str, ...]:
    """The parts of a backbone in the tables, or of all backbones."""
    return tuple(dict.fromkeys(part for recipe in _holding(backbone) for part in recipe.parts))


def strides_of(backbone: str = "") -> tuple[int, ...]:
    """The possible output strides of a backbone in the tables, or of all backbones."""
    return tuple(sorted({stride for recipe in _holding(backbone) for stride in recipe.strides}))


def _holding(backbone: str) -> list[Recipe]:
    """The recipes with a backbone in their tables; all recipes if none is named."""
    return [recipe for recipe in load_all().values() if not backbone or backbone in recipe.table]


def load(path: Path, form: type[T], name: str) -> T:
    """Read and check one YAML file; WrongInput calls a malformed one by `name`."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return msgspec.convert(content, form)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise WrongInput(f"{name} is malformed: {' '.join(str(error).split())}") from error


def find(name: str, kinds: tuple[str, ...]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe called `name` (a recipe, or recipe-variant) and the variant's settings.

    Raises WrongInput with the nearest existing name.
    """
    found = [recipe for recipe in load_all().values() if recipe.kind in kinds]
    known = {own: (recipe, values) for recipe in found for own, values in recipe.named.items()}
    if name not in known:
        what = "method or refiner" if len(kinds) > 1 else kinds[0].replace("images", "kind of image set")
        for recipe in load_all().values():
            if name in recipe.named and recipe.kind in OPTIONS:
                option = f"{OPTIONS[recipe.kind]} {name}"
                raise WrongInput(f"there is no {what} called {name!r}; it belongs to another option: {option}")
        raise WrongInput(f"there is no {what} called {name!r}{nearest(name, known)}")
    return known[name]


def allowed(setting: Setting) -> tuple[Any, ...]:
    """The values to choose from, with the names in tables; empty if only the type and the bounds limit the value."""
    parts = parts_of() if setting.part_of else ()
    strides = strides_of() if setting.stride_of else ()
    return (*setting.choices, *entries(setting.choices_from), *parts, *strides)
