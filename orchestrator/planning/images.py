"""The image set that a command names: its settings, its name, and opening it."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from imagesets.image_set import ImageSet
from imagesets.layout import name_of
from orchestrator.planning.inherited import with_unnamed_methods
from orchestrator.planning.recipe import Recipe
from orchestrator.planning.recipes import find, load_all
from orchestrator.planning.references import resolve
from orchestrator.planning.settings import layered, parse_assignments


def images_recipe(spec: str) -> Recipe:
    """The recipe of the kind of image set that `spec` names, such as folder:PATH; a plain path is told what to write."""
    kind = spec.partition(":")[0]
    known = {name for name, recipe in load_all().items() if recipe.kind == "images"}
    if kind not in known and (re.match(r"[^:]*[/\\.~]", spec) or Path(spec).is_dir()):
        kinds = ", ".join(sorted(known))
        raise WrongInput(f"--images {spec} names no kind of image set; did you mean folder:{spec}? The kinds are {kinds}")
    return find(kind, ("images",))[0]


def image_layers(images: Recipe) -> list[Mapping[str, Any]]:
    """The settings for a kind of image set: those of the components' recipes, then those of its own recipe."""
    published = {
        f"{recipe.name}.{name}": value
        for recipe in load_all().values()
        for name, value in recipe.published_settings.get(images.name, {}).items()
    }
    return [published, with_unnamed_methods(images.overrides)]


def open_images(spec: str, settings: Mapping[str, Any], store: Path, make: bool, exclude: Path | None = None) -> ImageSet | None:
    """Open `spec`. Built-in images are in the store; if they are missing, they are made with `make`, else the result is None."""
    kind, colon, given = spec.partition(":")
    recipe, own = images_recipe(spec), _own(settings)
    if recipe.make and colon:
        raise WrongInput(f"--images {spec}: {kind} is built in and takes no folder; write --images {kind}")
    if not recipe.make and not given:
        raise WrongInput(f"--images {kind} names no folder; write --images {kind}:PATH")
    path = resolve(recipe.make)(store / "images", own, make) if recipe.make else given
    if path is None:
        return None
    images = resolve(recipe.open)(path, own)
    if exclude and not exclude.is_file():
        raise WrongInput(f"--exclude {exclude}: there is no such file; it holds one image id a line")
    return images.without(exclude) if exclude else images


def images_name(spec: str, settings: Mapping[str, Any]) -> str:
    """The name that the image set `spec` will have."""
    return name_of(spec.partition(":")[2], _own(settings))


def _own(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The image set's own settings, by their bare names."""
    return {name.removeprefix("images."): value for name, value in settings.items() if name.startswith("images.")}


def prepare(spec: str, assignments: Sequence[str], given: Mapping[str, Any], spread: Callable, show: Callable) -> list[str]:
    """Prepare the image set `spec`, with further settings `given`; returns a sentence on each list.

    `spread` and `show` are as in `imagesets.coco_preparation`.
    """
    path, recipe = spec.partition(":")[2], images_recipe(spec)
    if not recipe.prepare or not path:
        able = [other.name for other in load_all().values() if other.prepare]
        raise WrongInput(f"there is nothing to prepare in {spec}; {', '.join(f'{name}:PATH' for name in able)} can be prepared")
    return resolve(recipe.prepare)(path, {**_own(settings_alone(recipe, assignments)), **given}, spread, show)


def unread_alone(assignments: Sequence[str], owners: Sequence[str] = ("images",)) -> list[str]:
    """A sentence for each assigned setting that a command does not read, if it reads those of the recipes `owners`."""
    read = " and ".join(f"{owner}.*" for owner in owners)
    others = [text for text in assignments if text.partition(".")[0].strip() not in owners]
    return [f"this command does not read {text}; it reads {read}" for text in others]


def settings_alone(recipe: Recipe, assignments: Sequence[str]) -> dict[str, Any]:
    """The settings of a kind of image set, for commands that run no method."""
    return layered(recipe, [*image_layers(recipe), parse_assignments(assignments)])


def images_alone(spec: str, assignments: Sequence[str], store: Path) -> tuple[ImageSet, Mapping[str, Any]]:
    """An image set and its settings, for commands that run no method; missing built-in images are made."""
    recipe = images_recipe(spec)
    settings = settings_alone(recipe, assignments)
    images = open_images(spec, settings, store, make=True)
    assert images is not None  # missing images are made
    return images, settings
