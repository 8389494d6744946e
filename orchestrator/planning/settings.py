"""All settings of a run, resolved once: defaults, then the image set's, the segmenter variant's, a preset's, then `--set`.

The result is one flat table "component.name" -> value. Nothing below this module reads a default from anywhere else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipes import Recipe, Setting, load_all

PRESETS = {"none", "imagenet"}  # values of a `file` or `folder` setting that are words, not paths


def declared(images: Recipe) -> dict[str, Setting]:
    """Every setting that a run on this kind of image set has, by its full name."""
    table: dict[str, Setting] = {}
    for recipe in load_all().values():
        if recipe.kind == "preset" or (recipe.kind == "images" and recipe.name != images.name):
            continue
        prefix = "images" if recipe.kind == "images" else recipe.name
        table |= {f"{prefix}.{name}": setting for name, setting in recipe.settings.items()}
    return table


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`--set key=value` strings as a table; values are YAML ("0.3", "true", "[1, 0.5]")."""
    parsed = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongInput(f"--set {text!r} has no '='; it takes key=value, such as --set cam.epochs=3")
        parsed[name.strip()] = yaml.safe_load(value)
    return parsed


def resolve(images: Recipe, layers: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings table after applying `layers` in order over the defaults; every problem is reported at once."""
    table = declared(images)
    values = {name: setting.default for name, setting in table.items()}
    problems = []
    for layer in layers:
        for name, value in layer.items():
            if name not in table:
                problems.append(f"there is no setting {name!r}{nearest(name, table)}")
                continue
            try:
                values[name] = checked(name, value, table[name])
            except WrongInput as error:
                problems.append(str(error))
    if problems:
        raise WrongInput("; ".join(problems))
    return values


def checked(name: str, value: Any, setting: Setting) -> Any:
    """`value` in the type of the setting's default and within its bounds, or WrongInput."""
    if value is None and setting.null:
        return None
    if (setting.file or setting.folder) and str(value) not in PRESETS:
        path = Path(str(value)).expanduser().resolve()
        if not (path.is_file() if setting.file else path.is_dir()):
            kind = "file" if setting.file else "folder"
            raise WrongInput(f"{name}={value} is neither {' nor '.join(sorted(PRESETS))} nor an existing {kind}")
        return str(path)
    value = _typed(name, value, setting)
    if setting.allowed and value not in setting.allowed:
        choices = ", ".join(map(str, setting.allowed))
        raise WrongInput(f"{name}={value} is not one of {choices}")
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            _check_bounds(name, number, setting)
    return value


def _typed(name: str, value: Any, setting: Setting) -> Any:
    kind = type(setting.default)
    if setting.default is None:
        return value
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # also of "5e-4", which YAML takes for text
        except ValueError:
            pass
    if kind is list and not isinstance(value, list):
        value = [value]
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)  # an image list may well be called 2012
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise WrongInput(f"{name}={value!r} must be of type {kind.__name__}, such as {setting.default!r}")
    return value


def _check_bounds(name: str, number: float, setting: Setting) -> None:
    low, high = setting.minimum, setting.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        allowed = (
            f"between {low} and {high}" if None not in (low, high) else f"at least {low}" if high is None else f"at most {high}"
        )
        raise WrongInput(f"{name}={number} must be {allowed}")
