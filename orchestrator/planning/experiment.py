"""What a person asks for, and the settings and stages that it comes to.

A `Request` becomes an `Experiment`. Finding it reads recipes and files of settings, and neither images nor a store.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from imagesets.errors import WrongInput
from orchestrator.planning import companions
from orchestrator.planning.components import Component, components, learns_from_masks, spelled
from orchestrator.planning.expression import expand
from orchestrator.planning.images import image_layers, images_recipe
from orchestrator.planning.inherited import with_unnamed_methods
from orchestrator.planning.precision import by_machine
from orchestrator.planning.recipe import Recipe, Setting
from orchestrator.planning.recipes import find, load_all
from orchestrator.planning.settings import checked, declared, is_file, layered, parse_assignments, read_file
from orchestrator.planning.stage import Stage
from orchestrator.planning.workers import WORKERS, dividing, room
from orchestrator.storage.place import STORE


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    method: str
    images: str = "shapes"
    segmenter: str = ""
    recipe: str = ""  # name of a preset or path of a YAML file of settings
    assignments: tuple[str, ...] = ()
    random_seed: int = 0
    store: Path = STORE
    exclude: Path | None = None
    cluster: bool = False  # whether it runs on a cluster, of which nothing is known here
    # the most workers of a training if no setting gives a number; 0: as many as fit this machine, or one on a cluster
    room: int = 0
    weak_segmenter: bool = False  # a preset overrides the segmenter's variant: a table named it, and not the user

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", spelled(self.method))  # it is part of the names of runs and sweeps


@dataclass(frozen=True)
class Experiment:
    """A request with its settings and stages; finding these needs no images."""

    request: Request
    images_recipe: Recipe
    segmenter: str  # the one that the request names, or that stands in where it names none
    settings: Mapping[str, Any]
    stages: list[Stage]

    @cached_property
    def declared(self) -> dict[str, Setting]:
        """Every setting of a run on this kind of image set, by its full name."""
        return declared(self.images_recipe)

    @property
    def read(self) -> set[str]:
        """The full names of the settings that reach a stage or choose between stages."""
        read = {full for stage in self.stages for full in (*stage.owned.values(), *stage.recipe.if_set) if full}
        used = (one for stage in self.stages for one in load_all()[stage.component].stages if one.use)
        return read.union(*(one.if_set for one in used))

    @property
    def used(self) -> dict[str, Any]:
        """The settings that a stage's result depends on, by their full names."""
        return {name: self.settings[name] for name in sorted(self.read) if self.declared[name].keyed}

    @property
    def lists(self) -> list[str]:
        """The image lists that stages go over, in order."""
        return list(dict.fromkeys(stage.list_name for stage in self.stages))


def experiment(request: Request) -> Experiment:
    """Resolve a request's expression and settings; raises WrongInput for any problem before it opens anything."""
    found = _resolved(request)
    settings = found.settings | by_machine(found.settings, request.cluster)
    stages = expand(found.chain, settings)
    if settings[WORKERS] is None:
        settings[WORKERS] = dividing(stages, room_of(request))
        stages = expand(found.chain, settings)
    return Experiment(found.request, found.images, found.segmenter, settings, stages)


def repeat(wanted: Experiment, random_seeds: Sequence[int]) -> list[Experiment]:
    """The same experiment for each random seed; only its random numbers differ."""
    return [replace(wanted, request=replace(wanted.request, random_seed=seed)) for seed in random_seeds]


def room_of(request: Request) -> int:
    """The most workers of a training if no setting gives a number."""
    return request.room or (1 if request.cluster else room())


def settings_given(request: Request) -> dict[str, Any]:
    """All settings of a request; None for settings that follow the machine."""
    return _resolved(request).settings


def from_companions(wanted: Experiment) -> Iterator[str]:
    """A sentence for each setting that has the default of a component other than its own, and that a stage reads."""
    found = _resolved(wanted.request)
    _, *stronger = _layers(found.request, found.images, found.chain)
    for name, (_, giver) in companions.given(found.chain).items():
        if name in wanted.read and not any(name in layer for layer in stronger):
            yield f"{name}={found.settings[name]} is the default that {giver} gives"


def against_names(wanted: Experiment) -> Iterator[str]:
    """A sentence for each setting of a named variant, such as the backbone of deeplabv2-resnet50, against one that the user gave.

    An assignment replaces the variant's value; the value of a named segmenter's variant replaces that of a file.
    """
    assigned = parse_assignments(wanted.request.assignments)
    yield from _against_file(wanted, assigned)
    for word in filter(None, [*wanted.request.method.split("+"), wanted.request.segmenter]):
        recipe, values = find(word, companions.NAMED)
        for name, setting in recipe.settings.items():
            full, value = f"{recipe.name}.{name}", values.get(name, setting.default)
            if word == f"{recipe.name}-{value}" and full in assigned and wanted.settings[full] != value:
                yield f"{full}={wanted.settings[full]} replaces the {value} of {word}"


def _against_file(wanted: Experiment, assigned: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each value of the user's file of settings that the variant of the named segmenter replaces."""
    request = wanted.request
    if not is_file(request.recipe) or not request.segmenter or request.weak_segmenter:
        return
    given = _preset(request.recipe)
    recipe, variant = find(request.segmenter, ("segmenter",))
    for name, value in variant.items():
        full = f"{recipe.name}.{name}"
        if full in given and full not in assigned and checked(full, given[full], wanted.declared[full]) != value:
            yield f"{full}={value} of {request.segmenter} replaces {given[full]} of {request.recipe}"


class _Resolved(NamedTuple):
    """A request with the refiners of its network, and what it names."""

    request: Request
    images: Recipe
    segmenter: str
    chain: list[Component]
    settings: dict[str, Any]


def _resolved(request: Request) -> _Resolved:
    images = images_recipe(request.images)
    segmenter = request.segmenter or _segmenter(request, images)
    request = _with_refiners(request, images, segmenter)
    chain = components(request.method, segmenter)
    used = [recipe.name for part in chain for recipe in (part.recipe, *part.add_ons)]
    return _Resolved(request, images, segmenter, chain, layered(images, _layers(request, images, chain), used))


def _with_refiners(request: Request, images: Recipe, segmenter: str) -> Request:
    """The request, with the refiners that its network was published with on these images, if it needs some and names none."""
    recipes = _named(request)
    found = next((own for recipe in recipes if (own := recipe.published_refiners.get(images.name))), ())
    last, _ = find(segmenter, ("segmenter",))
    if any(recipe.kind == "refiner" for recipe in recipes) or not learns_from_masks(last):
        return request
    return replace(request, method="+".join([request.method, *found]))


def _segmenter(request: Request, images: Recipe) -> str:
    """The segmenter of a request that names none: its network's published one on these images, or the images'."""
    published = (recipe.published_segmenter.get(images.name) for recipe in _named(request))
    return next(filter(None, published), images.segmenter)


def _named(request: Request) -> list[Recipe]:
    """The recipes of the words of a method that have one of that name."""
    return [recipe for word in request.method.split("+") if (recipe := load_all().get(word))]


def _layers(request: Request, images: Recipe, chain: list[Component]) -> list[Mapping[str, Any]]:
    variants = {f"{part.recipe.name}.{name}": value for part in chain for name, value in part.variant.items()}
    preset = _preset(request.recipe)
    # a preset overrides the variant of the image set's default segmenter, but not that of a named one
    named = request.segmenter and not request.weak_segmenter
    middle = [preset, variants] if named else [variants, preset]
    weakest = {name: value for name, (value, _) in companions.given(chain).items()}
    return [weakest, *image_layers(images), *middle, parse_assignments(request.assignments)]


def _preset(recipe: str) -> Mapping[str, Any]:
    """The settings of a preset of the package, or of a YAML file that maps settings to values."""
    if not recipe:
        return {}
    path = Path(recipe).expanduser()
    if is_file(recipe):
        if not path.is_file():
            raise WrongInput(f"--recipe {recipe}: there is no such file")
        return read_file(path)
    if path.is_file() and recipe not in load_all():
        raise WrongInput(f"--recipe {recipe}: the name of a file of settings ends in .yaml or .yml")
    return with_unnamed_methods(find(recipe, ("preset",))[0].overrides)
