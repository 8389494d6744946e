"""Method expressions: `a+b+c` folded over a few words into the stages of a run.

Every stage reads and rebinds words (network, maps, labels, fitted, affinity, masks, segmenter, predictions). The recipes say
which; folding the components in a fixed order is all there is to it. Stages that nobody reads and nobody scores are left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.capabilities import check_add_on, check_requirements
from orchestrator.planning.components import Component
from orchestrator.planning.imports import IMPORTED, in_place, wanted
from orchestrator.planning.recipes import AddOn, Recipe, StageRecipe, entries, load_all


@dataclass(frozen=True)
class Stage:
    """One stage of a run: what runs, with which settings, on which stages' results."""

    name: str  # "lpcam-maps": readable, not part of the key
    component: str
    recipe: StageRecipe
    list_name: str  # the image list that it goes over
    settings: Mapping[str, Any]
    owned: Mapping[str, str]  # name of a setting here -> its full name, "" of an optional one that nobody has
    inputs: Mapping[str, "Stage"]  # word -> the stage that wrote it
    add_ons: Mapping[str, AddOn] = field(default_factory=dict)  # what adds to this training, by component
    scores: str = ""  # of an evaluation: seed, pseudo or seg
    in_place_of: str = ""  # of an imported result: the component whose place it takes
    names: Mapping[str, str] = field(default_factory=dict)  # settings that are entries of tables: as the run names them

    @property
    def base(self) -> str:
        """The stage's name whatever list it goes over; it also tells a training's random numbers from another's."""
        return f"{self.component}-{self.recipe.name}"

    @property
    def components(self) -> set[str]:
        """The stage's component and its add-ons."""
        return {self.component, *self.add_ons}


@dataclass(frozen=True)
class _Part:
    """A stage as a recipe declares it, at its place in the fold: `within` is the component, `owner` declares the stage."""

    within: Recipe
    owner: Recipe
    recipe: StageRecipe
    add_ons: tuple[Recipe, ...] = ()


def expand(chain: Iterable[Component], settings: Mapping[str, Any]) -> list[Stage]:
    """Fold the components into stages with exactly the settings each receives."""
    placed = _placed(list(chain), settings)
    parts = list(_parts(placed))
    imported = in_place([(part.within, part.recipe) for part in parts], settings)
    bound: dict[str, Stage] = {}
    stages: list[Stage] = []
    for place, part in enumerate(parts):
        if place in imported:
            own = load_all()[IMPORTED]
            stage = replace(_bind(_Part(own, own, imported[place]), bound, settings), in_place_of=part.within.name)
        else:
            stage = _bind(part, bound, settings)
        stages.append(stage)
        bound[part.recipe.writes] = stage
    kept = _kept(stages, placed, max(imported, default=-1), settings)
    _check_nothing_is_dropped(kept, placed, settings)
    return kept


def _placed(chain: list[Component], settings: Mapping[str, Any]) -> list[Component]:
    """The chain with a component behind the one that its setting `after` names, if it names any (lpcam.on=amn)."""
    for component in [component for component in chain if component.recipe.after]:
        setting = f"{component.recipe.name}.{component.recipe.after}"
        places = {other.recipe.name: place for place, other in enumerate(chain)}
        if settings[setting] in places:
            chain.insert(places[settings[setting]], chain.pop(places[component.recipe.name]))
        elif settings[setting] != "network":
            raise WrongInput(
                f"{setting}={settings[setting]} needs {settings[setting]} in the expression, which has {'+'.join(places)}"
            )
    return chain


def _parts(chain: Sequence[Component]) -> Iterator[_Part]:
    """The stages of all components in order; those of an add-on stand before the training that it adds to."""
    written: set[str] = set()
    for component in chain:
        own = list(_stages_of(component.recipe, written))
        for part in own:
            if component.add_ons and part.recipe.kind == "train" and part.recipe.writes == "network":
                for add_on in component.add_ons:
                    yield from _stages_of(add_on, written)
                yield replace(part, add_ons=component.add_ons)
            else:
                yield part
        written |= {part.recipe.writes for part in own}


def _stages_of(recipe: Recipe, written: set[str]) -> Iterator[_Part]:
    """A recipe's stages after components that have `written` words; `use: crf.labels` is that shared stage and its owner."""
    for stage in recipe.stages:
        if any((word in written) != there for word, there in stage.if_bound.items()):
            continue
        if not stage.use:
            yield _Part(recipe, recipe, stage)
            continue
        owner_name, _, name = stage.use.partition(".")
        owner = load_all()[owner_name]
        yield _Part(recipe, owner, next(shared for shared in owner.shared_stages if shared.name == name))


def _bind(part: _Part, bound: Mapping[str, Stage], settings: Mapping[str, Any]) -> Stage:
    recipe, add_ons = part.recipe, {add_on.name: add_on.adds for add_on in part.add_ons if add_on.adds}
    reads = [*recipe.reads, *(word for word, when in recipe.reads_if.items() if when.items() <= settings.items())]
    reads += [word for add_on in add_ons.values() for word in add_on.reads]
    missing = [word for word in reads if word not in bound]
    if missing:
        raise WrongInput(f"{part.within.name} needs {' and '.join(missing)}, which nothing before it in the expression makes")
    inputs = {word: bound[word] for word in reads}
    owned = _full_names(part.owner.name, recipe.settings, inputs, settings)
    for name, add_on in add_ons.items():
        check_add_on(name, add_on, part.within.name, recipe)
        owned |= {f"{name}.{own}": f"{name}.{own}" for own in add_on.settings}
    check_requirements(part.within.name, part.owner.name, recipe, inputs, settings)
    return Stage(
        name=f"{part.within.name}-{recipe.name}",
        component=part.within.name,
        recipe=recipe,
        list_name=_list(recipe.list, settings),
        inputs=inputs,
        add_ons=add_ons,
        **_received(owned, settings),
    )


def _list(role: str, settings: Mapping[str, Any]) -> str:
    """The list of a role; stages that fit use the training list unless another is set."""
    value = settings[f"images.{role}"] or settings["images.training"]
    return value[0] if isinstance(value, list) else value


def _full_names(owner: str, listed: Iterable[str], inputs: Mapping[str, Stage], settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings that a stage lists, by the name that it knows each by: its full name, or "" of an optional one that is not.

    A stage's own settings go by their bare name, shared ones and those of a word's writer by a prefix.
    """
    names: dict[str, str] = {}
    for entry in listed:
        name = entry.removesuffix("?")
        prefix, dot, own = name.partition(".")
        if own == "*":
            names |= {full: full for full in settings if full.startswith(f"{prefix}.")}
            continue
        writer = inputs[prefix].in_place_of or inputs[prefix].component if prefix in inputs else prefix
        full = f"{writer}.{own}" if dot else f"{owner}.{name}"
        if full not in settings and prefix in inputs and not entry.endswith("?"):
            raise WrongInput(f"{owner} cannot work on {writer}: that has no setting {own!r}")
        names[name] = "" if full not in settings and entry.endswith("?") else full
    return names


def _received(owned: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stage that tell its settings: where one names an entry of a table, the stage receives that entry."""
    values = {name: settings[full] if full else None for name, full in owned.items()}
    tables = {name: _table(full) for name, full in owned.items()}
    names = {name: value for name, value in values.items() if isinstance(value, str) and value in tables[name]}
    return {
        "settings": {**values, **{name: tables[name][value] for name, value in names.items()}},
        "owned": owned,
        "names": names,
    }


def _table(setting: str) -> Mapping[str, Any]:
    """The entries that the values of a setting ("owner.name") name, if they do."""
    owner, _, name = setting.partition(".")
    recipe = load_all().get(owner)
    return entries(recipe.settings[name].choices_from) if recipe and name in recipe.settings else {}


def _kept(stages: Sequence[Stage], chain: Sequence[Component], last_import: int, settings: Mapping[str, Any]) -> list[Stage]:
    """The stages that the segmentation or a score comes from, each scored one followed by its evaluations.

    What is scored counts where it was named, unless an import has taken the place of what would have read it.
    """
    named = {IMPORTED, *(component.recipe.name for component in chain if component.named)}
    kept: set[int] = set()

    def keep(stage: Stage) -> None:
        if id(stage) not in kept:
            kept.add(id(stage))
            for source in stage.inputs.values():
                keep(source)

    keep(stages[-1])
    for place, stage in enumerate(stages):
        if stage.recipe.scored and stage.component in named and place >= last_import:
            keep(stage)
    found = []
    for stage in stages:
        if id(stage) in kept:
            found.append(stage)
            if stage.recipe.scored and stage.component in named:
                found += _evaluations(stage, settings)
    return found


def _evaluations(stage: Stage, settings: Mapping[str, Any]) -> Iterator[Stage]:
    """The scores of a stage on every list that its quantity is scored on, and on the list that settings are chosen on."""
    owner = load_all()["evaluation"]
    recipe = next(part for part in owner.stages if part.name == stage.recipe.scored)
    inputs = {recipe.reads[0]: stage}
    received = _received(_full_names(owner.name, recipe.settings, inputs, settings), settings)
    lists = [*settings[f"images.{recipe.list}"], *filter(None, [settings["images.selection"]])]
    for number, list_name in enumerate(dict.fromkeys(lists)):
        name = f"{stage.name}-score{f'-{list_name}' if number else ''}"
        yield Stage(name, stage.component, recipe, list_name, inputs=inputs, scores=recipe.name, **received)


def _check_nothing_is_dropped(stages: Sequence[Stage], chain: Sequence[Component], settings: Mapping[str, Any]) -> None:
    """Raise WrongInput where a component that was named, or an import, would have no part in the run."""
    kept = {stage.recipe.name for stage in stages if stage.component == IMPORTED}
    for part in wanted(settings):
        if part.name not in kept:
            raise WrongInput(f"nothing in this run would read {IMPORTED}.{part.name}; leave it out")
    if kept:
        return  # what an import takes the place of is left out, and what only that would have read
    refiners = [component.recipe.name for component in chain if component.recipe.kind == "refiner"]
    for first, second in pairwise(refiners):
        if not any(stage.component == second and first in _sources(stage) for stage in stages):
            raise WrongInput(f"{second} does not work on what {first} makes; name one of them, or another order")
    there = set().union(*(stage.components for stage in stages))
    for component in chain:
        if component.named and component.recipe.name not in there:
            raise WrongInput(f"{component.recipe.name} has no part in this run: nothing reads what it makes; leave it out")


def _sources(stage: Stage) -> set[str]:
    """The components that a stage reads directly."""
    return {source.component for source in stage.inputs.values()}


def over(stage: Stage, list_name: str) -> Stage:
    """The same stage over another image list, under a name of its own; `base` is what it was called before."""
    return replace(stage, name=f"{stage.base}-{list_name}", list_name=list_name)


def narrowed(stages: Sequence[Stage], until: str, only: str) -> list[Stage]:
    """The stages that have to be planned: all, or those that lead to one stage."""
    name = until or only
    if not name:
        return list(stages)
    named = {stage.name: stage for stage in stages}
    if name not in named:
        from orchestrator.planning.nearest import nearest

        raise WrongInput(f"this run has no stage {name!r}{nearest(name, named)}")
    wanted = _with_sources(named[name])
    return [stage for stage in stages if stage.name in wanted]


def _with_sources(stage: Stage) -> set[str]:
    return {stage.name}.union(*(_with_sources(source) for source in stage.inputs.values()))
