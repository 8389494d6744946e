"""All settings of a run, resolved once: defaults, then those of companions (`planning.companions`), the image set, the segmenter
variant, the preset, and `--set`.

The result is one flat table "component.name" -> value. It is the only source of settings.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipe import Recipe, Setting
from orchestrator.planning.recipes import allowed, load_all
from orchestrator.planning.values import Typed, bounded, ordered, read

SAW = {"none": "none", "imagenet": "labels"}  # words in place of a file of weights, and what such weights learnt from
NO_FILE = set(SAW)
OPTIONS = ("method", "images", "segmenter", "random-seed", "random-seeds", "runs", "store", "engine", "track", "exclude", "until")


def declared(images: Recipe) -> dict[str, Setting]:
    """Every setting of a run on this kind of image set, by its full name."""
    table: dict[str, Setting] = {}
    for recipe in load_all().values():
        if recipe.kind == "preset" or (recipe.kind == "images" and recipe.name != images.name):
            continue
        table |= {f"{recipe.prefix}.{name}": setting for name, setting in recipe.settings.items()}
    return table


def parse_assignments(assignments: Iterable[str]) -> dict[str, Typed]:
    """`--set key=value` strings as a table of typed texts; a setting's type decides how a text is read."""
    parsed = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongInput(f"--set {text!r} has no '='; it takes key=value, such as --set cam.epochs=3")
        parsed[name.strip()] = Typed(value.strip())
    return parsed


def is_file(recipe: str) -> bool:
    """Whether `--recipe` names a file of the user's own, and no preset."""
    return Path(recipe).suffix in (".yaml", ".yml")


def read_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file that maps names to values, as they are written; WrongInput for any other file."""
    try:
        text = path.read_text(encoding="utf-8")
        table, written = yaml.load(text, yaml.BaseLoader), yaml.compose(text, yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise WrongInput(f"--recipe {path} is no YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(written, yaml.MappingNode):
        raise WrongInput(f"--recipe {path} must map settings to values, such as cam.epochs: 3")
    if twice := [name for name, count in Counter(key.value for key, _ in written.value).items() if count > 1]:
        raise WrongInput(f"--recipe {path} has the setting {twice[0]} twice; once is right")
    if nested := next((name for name, value in table.items() if isinstance(value, dict)), None):
        example = f"{nested}.{next(iter(table[nested]), 'name')}"
        raise WrongInput(f"--recipe {path} has settings below {nested!r}; a setting is one line, such as {example}: VALUE")
    for name, value in table.items():
        if isinstance(value, list) and not all(isinstance(element, str) for element in value):  # aliases can make it endless
            raise WrongInput(f"--recipe {path} has more than texts and numbers in the list {name!r}; right is [1.0, 0.5]")
    return table


def layered(images: Recipe, layers: list[Mapping[str, Any]], used: Collection[str] = ()) -> dict[str, Any]:
    """The settings table after applying `layers` in order over the defaults; all problems are reported at once.

    A name without a component is told the nearest setting of the components `used`.
    """
    table = declared(images)
    values = {name: setting.default for name, setting in table.items()}
    problems = []
    for layer in layers:
        for name, value in layer.items():
            if name not in table:
                end = f".{name.replace('.', '_')}"  # seed.threshold, as sweeps call it, is the seed_threshold of a method
                own = [full for full in table if full.partition(".")[0] in used and ("." not in name or full.endswith(end))]
                option = name.lower().replace("_", "-")
                hint = f"; it is the option --{option}" if option in OPTIONS else nearest(name, own or table)
                problems.append(f"there is no setting {name!r}{hint}")
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
    value = read(name, value, setting)
    if value is None:
        return None
    if setting.file or setting.folder:
        return value if value in _words(setting) else _path(name, value, setting)
    for element in value if isinstance(value, list) else [value]:
        if allowed(setting) and element not in allowed(setting):
            choices = ", ".join(map(str, allowed(setting)))
            raise WrongInput(f"{name}={element} is not one of {choices}")
        bounded(name, element, setting)
    if isinstance(value, list):
        ordered(name, value, setting)
    return value


def _words(setting: Setting) -> list[str]:
    """The words that a `file` or `folder` setting takes beside a path: only weights can be those of ImageNet."""
    return [*(sorted(NO_FILE) if setting.weights_of else ["none"]), *setting.choices]


def _path(name: str, value: str, setting: Setting) -> str:
    """The absolute path of the file or folder that a setting names."""
    path = Path(value).expanduser().resolve()
    if not value or not (path.is_file() if setting.file else path.is_dir()):
        kind = "file" if setting.file else "folder"
        raise WrongInput(
            f"{name}={value} is no existing {kind}; it takes the path of a {kind}, or {' or '.join(_words(setting))}"
        )
    return str(path)
