"""A stage of a run: a method expression is expanded into stages."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imagesets.errors import WrongInput
from imagesets.image_set import UNION
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipe import AddOn, StageRecipe


@dataclass(frozen=True)
class Stage:
    """One stage of a run: its function, its settings, and the stages whose results it reads."""

    name: str  # "lpcam-maps": readable, not part of the key
    component: str
    purpose: str  # "crf-labels": the recipe and stage that declare it, which name its random numbers
    recipe: StageRecipe
    list_name: str  # the image list that it goes over, or a union of lists
    settings: Mapping[str, Any]
    owned: Mapping[str, str]  # name of a setting in the stage -> its full name, "" for a missing optional one
    inputs: Mapping[str, "Stage"]  # word -> the stage that wrote it
    add_ons: Mapping[str, AddOn] = field(default_factory=dict)  # what adds to this training, by the add-on's name
    scores: str = ""  # of an evaluation: the quantity
    in_place_of: str = ""  # the component whose settings go with the result, if that is another: the one that an import replaces
    names: Mapping[str, str] = field(default_factory=dict)  # settings that are entries of tables: their names

    @property
    def lists(self) -> list[str]:
        """The image lists that it goes over: one, or those of a union."""
        return self.list_name.split(UNION)

    @property
    def least_share(self) -> int:
        """Of a training: the fewest images in each part of a worker's share of a batch."""
        return max(self.recipe.least_share, *(add_on.least_share for add_on in self.add_ons.values()), 1)

    @property
    def components(self) -> set[str]:
        """The stage's component and its add-ons."""
        return {self.component, *self.add_ons}


Holds = Callable[[str, str], bool]  # whether the first image list holds all images of the second


def narrowed(stages: Sequence[Stage], until: str, only: str) -> list[Stage]:
    """The stages to plan: all, or those that lead to one stage."""
    name = until or only
    if not name:
        return list(stages)
    named = {stage.name: stage for stage in stages}
    if name not in named:
        raise WrongInput(f"this run has no stage {name!r}{nearest(name, named)}")
    return leading_to([named[name]])


def leading_to(stages: Iterable[Stage]) -> list[Stage]:
    """These stages and all stages behind them, each once, after those that it reads."""
    return list({source.name: source for stage in stages for source in _behind(stage)}.values())


def _behind(stage: Stage) -> Iterator[Stage]:
    """The stages behind a stage, and last the stage itself."""
    for source in stage.inputs.values():
        yield from _behind(source)
    yield stage


def over_what_is_read(stages: Sequence[Stage], holds: Holds) -> list[Stage]:
    """The stages in their order, each per-image stage over the lists of its readers, and over its own list if it has none."""
    lists, made = _lists_read(stages, holds), dict[str, Stage]()
    for stage in stages:
        inputs = {word: made[source.name] for word, source in stage.inputs.items()}
        made[stage.name] = replace(stage, list_name=lists[stage.name], inputs=inputs)
    return list(made.values())


def _lists_read(stages: Sequence[Stage], holds: Holds) -> dict[str, str]:
    """The list, or the union of lists, that each stage goes over; the readers of a stage stand behind it."""
    lists: dict[str, str] = {}
    read: dict[str, list[str]] = {}  # the lists of a stage's readers
    for stage in reversed(stages):
        wanted = stage.recipe.per_image and read.get(stage.name)
        lists[stage.name] = union(wanted, holds, first=stage.list_name) if wanted else stage.list_name
        for source in stage.inputs.values():
            read.setdefault(source.name, []).insert(0, lists[stage.name])
    return lists


def union(names: Sequence[str], holds: Holds, first: str = "") -> str:
    """The union of lists, without those that another one holds; those that `first` names come first."""
    parts = {part for name in names for part in name.split(UNION)}
    found: list[str] = []
    for part in (part for name in (first, *names) for part in name.split(UNION) if part in parts):
        if not any(holds(other, part) for other in found):
            found = [*(other for other in found if not holds(part, other)), part]
    return UNION.join(found)
