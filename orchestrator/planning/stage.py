"""A stage of a run: a method expression is expanded into stages."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import eq
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipe import AddOn, StageRecipe


@dataclass(frozen=True)
class Stage:
    """One stage of a run: its function, its settings, and the stages whose results it reads."""

    name: str  # "lpcam-maps": readable, not part of the key
    component: str
    purpose: str  # "crf-labels": the recipe and stage that declare it, which name its random numbers
    recipe: StageRecipe
    list_name: str  # the image list that it goes over
    settings: Mapping[str, Any]
    owned: Mapping[str, str]  # name of a setting in the stage -> its full name, "" for a missing optional one
    inputs: Mapping[str, "Stage"]  # word -> the stage that wrote it
    add_ons: Mapping[str, AddOn] = field(default_factory=dict)  # what adds to this training, by the add-on's name
    scores: str = ""  # of an evaluation: the quantity
    in_place_of: str = ""  # of an imported result: the component that it replaces
    names: Mapping[str, str] = field(default_factory=dict)  # settings that are entries of tables: their names

    @property
    def base(self) -> str:
        """The stage's name without its list."""
        return f"{self.component}-{self.recipe.name}"

    @property
    def components(self) -> set[str]:
        """The stage's component and its add-ons."""
        return {self.component, *self.add_ons}


Holds = Callable[[str, str], bool]  # whether the first image list holds all images of the second


def covering(stage: Stage, list_name: str, holds: Holds) -> Stage:
    """The stage for a reader that needs its result on a list: itself, or if its own list lacks images, the same over that list.

    The latter has another name; `base` stays the old one.
    """
    if stage.recipe.kind != "map" or stage.recipe.over != "images" or holds(stage.list_name, list_name):
        return stage
    return replace(stage, name=f"{stage.base}-{list_name}", list_name=list_name)


def narrowed(stages: Sequence[Stage], until: str, only: str, holds: Holds = eq) -> list[Stage]:
    """The stages to plan: all, or those that lead to one stage, which may be a stage over the list of a reader."""
    name = until or only
    if not name:
        return list(stages)
    named = {source.name: source for stage in stages for source in _covered(stage, holds)}
    if name not in named:
        raise WrongInput(f"this run has no stage {name!r}{nearest(name, named)}")
    return list({source.name: source for source in _covered(named[name], holds)}.values())


def _covered(stage: Stage, holds: Holds) -> Iterator[Stage]:
    """The stages behind a stage as they are planned, and last the stage itself."""
    for source in stage.inputs.values():
        yield from _covered(covering(source, stage.list_name, holds), holds)
    yield stage
