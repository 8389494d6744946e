"""Method expressions: `a+b+c` folded over a few words into the stages of a run.

Every stage reads words and sets one anew (network, maps, labels, fitted, affinity, masks, segmenter, predictions); its recipe
says which. The components are folded in a fixed order. Unneeded stages are skipped.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning import choosing
from orchestrator.planning.capabilities import check_add_on, check_requirements
from orchestrator.planning.components import Component
from orchestrator.planning.in_place import IMPORTED, in_place
from orchestrator.planning.keeping import check_nothing_is_dropped, kept
from orchestrator.planning.receiving import full_names, received
from orchestrator.planning.recipe import AddOn, Recipe, StageRecipe
from orchestrator.planning.recipes import load_all
from orchestrator.planning.stage import Stage


@dataclass(frozen=True)
class _Part:
    """A declared stage at its place in the fold: `within` is its component, `owner` is the recipe that declares it.

    `replaced` is the part in whose place an imported result stands.
    """

    within: Recipe
    owner: Recipe
    recipe: StageRecipe
    add_ons: tuple[Recipe, ...] = ()
    replaced: "_Part | None" = None

    @property
    def additions(self) -> dict[str, AddOn]:
        """What its add-ons do to it, by their names."""
        return {add_on.name: add_on.adds for add_on in self.add_ons if add_on.adds}


def expand(chain: Iterable[Component], settings: Mapping[str, Any]) -> list[Stage]:
    """Fold the components into stages with exactly the settings each receives."""
    placed = _placed(list(chain), settings)
    parts = list(_parts(placed, settings))
    imported = in_place([(part.within, part.recipe) for part in parts], settings)
    bound: dict[str, Stage] = {}
    stages: list[Stage] = []
    for place, part in enumerate(parts):
        if place in imported:
            own = load_all()[IMPORTED]
            stage = replace(_bind(_Part(own, own, imported[place], replaced=part), bound, settings), in_place_of=part.within.name)
        else:
            stage = _bind(part, bound, settings)
        stages.append(stage)
        bound[part.recipe.writes] = stage
        for owner, recipe in choosing.after(stage, settings):
            choice = _bind(_Part(part.within, owner, recipe), bound, settings)
            stages.append(replace(choice, name=f"{stage.name}-{recipe.name}"))
            bound[recipe.writes] = stages[-1]
    found = kept(stages, placed, max(imported, default=-1), settings)
    check_nothing_is_dropped(found, placed, settings)
    return found


def _placed(chain: list[Component], settings: Mapping[str, Any]) -> list[Component]:
    """The chain, where a component is moved behind the component that its `after` setting names (lpcam.on=amn)."""
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


def _parts(chain: Sequence[Component], settings: Mapping[str, Any]) -> Iterator[_Part]:
    """The stages of all components in order; an add-on's stages come before the training that it adds to."""
    written: dict[str, tuple[str, ...]] = {}
    for component in chain:
        own = list(_stages_of(component.recipe, written, settings))
        added = [part for add_on in component.add_ons for part in _stages_of(add_on, written, settings)]
        for part in own:
            if part.recipe.kind == "train" and part.recipe.writes == "network":
                yield from added
                added = []  # made once, even if the network has several trainings
                yield replace(part, add_ons=tuple(one for one in component.add_ons if one.name not in part.recipe.without))
            else:
                yield part
        written |= {part.recipe.writes: part.recipe.provides for part in own}


def _stages_of(recipe: Recipe, written: Mapping[str, tuple[str, ...]], settings: Mapping[str, Any]) -> Iterator[_Part]:
    """A recipe's stages after components that have `written` words, whose last results provide capabilities.

    `use: crf.labels` is the stage `labels` of crf, one of its own or one that it only shares.
    """
    there = {*written, *(f"{word}.{own}" for word, provided in written.items() for own in provided)}
    for stage in recipe.stages:
        bound = all((word in there) == wanted for word, wanted in stage.if_bound.items())
        if not bound or not stage.if_set.items() <= settings.items():
            continue
        if not stage.use:
            yield _Part(recipe, recipe, stage)
            continue
        owner_name, _, name = stage.use.partition(".")
        owner = load_all()[owner_name]
        yield _Part(recipe, owner, next(one for one in (*owner.shared_stages, *owner.stages) if one.name == name))


def _bind(part: _Part, bound: Mapping[str, Stage], settings: Mapping[str, Any]) -> Stage:
    """The stage of a part; `bound` has the stage that wrote each word last."""
    recipe = part.recipe
    inputs = _inputs(part, bound, settings)
    owned = _owned(part, inputs, settings)
    inputs |= {word: bound[word] for word in choosing.words(owned, settings)}
    for name, add_on in part.additions.items():
        check_add_on(name, add_on, part.within.name, recipe, settings)
    check_requirements(part.within.name, part.owner.name, recipe, inputs, settings)
    source = inputs.get(recipe.settings_of)
    return Stage(
        name=f"{part.within.name}-{recipe.name}",
        component=part.within.name,
        purpose=f"{part.owner.name}-{recipe.name}",
        recipe=recipe,
        list_name=_list(recipe.list, settings),
        inputs=inputs,
        add_ons=part.additions,
        in_place_of=(source.in_place_of or source.component) if source else "",
        **received(owned, settings),
    )


def _inputs(part: _Part, bound: Mapping[str, Stage], settings: Mapping[str, Any]) -> dict[str, Stage]:
    """The stages that a part and its add-ons read, by word."""
    reads = [*part.recipe.reads, *(word for word, when in part.recipe.reads_if.items() if when.items() <= settings.items())]
    reads += [word for add_on in part.additions.values() for word in add_on.reads]
    if missing := [word for word in reads if word not in bound]:
        raise WrongInput(f"{part.within.name} needs {' and '.join(missing)}, which nothing before it in the expression makes")
    return {word: bound[word] for word in reads}


def _owned(part: _Part, inputs: Mapping[str, Stage], settings: Mapping[str, Any]) -> dict[str, str]:
    """The full name of each setting that a part and its add-ons receive."""
    owned = full_names(part.owner.name, part.recipe.settings, inputs, settings, reader=part.within.name)
    if part.replaced and part.recipe.network:
        owned |= full_names(part.replaced.owner.name, part.replaced.recipe.builds, inputs, settings)
    return owned | {f"{name}.{own}": f"{name}.{own}" for name, add_on in part.additions.items() for own in add_on.settings}


def _list(role: str, settings: Mapping[str, Any]) -> str:
    """The list of a role; stages that fit use the training list unless another is set."""
    value = settings[f"images.{role}"] or settings["images.training"]
    return value[0] if isinstance(value, list) else value
