"""The components that a method expression names, in the order in which they become stages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.recipe import ADD_ONS, FOLD_ORDER, Recipe
from orchestrator.planning.recipes import find

BASE_NETWORK = "cam"  # the network of an expression that names none
SINGLE = ("network", "reactivation", "extractor", "relearning")  # an expression takes one name of each of these kinds


@dataclass(frozen=True)
class Component:
    """A recipe in an expression; `add_ons` are the recipes that add to the training of its network."""

    recipe: Recipe
    variant: Mapping[str, Any] = field(default_factory=dict)  # the settings of the named variant
    named: bool = True  # named in the expression, or the default refiner or the segmenter
    add_ons: tuple[Recipe, ...] = ()

    @property
    def continues(self) -> bool:
        """Whether it makes maps of maps (scg), so that another of its kind may go before it."""
        return any(stage.writes == "maps" and "maps" in stage.reads for stage in self.recipe.stages)

    @property
    def trains_a_network(self) -> bool:
        """Whether the component has a training that add-ons can add to."""
        return any(stage.kind == "train" and stage.writes == "network" for stage in self.recipe.stages)


def components(expression: str, segmenter: str) -> list[Component]:
    """The components of `expression` and the segmenter, in order; raises WrongInput if they make no sense."""
    named = [Component(*find(word, (*FOLD_ORDER[:-1], *ADD_ONS))) for word in _words(expression)]
    _check_places(named)
    chain = _with_add_ons(named)
    chain.sort(key=lambda component: FOLD_ORDER.index(component.recipe.kind))  # a stable sort: refiners keep their order
    last = Component(*find(segmenter, ("segmenter",)))
    if learns_from_masks(last.recipe) and not any(component.recipe.kind == "refiner" for component in chain):
        defaults = next((part.recipe.default_refiners for part in reversed(chain) if part.recipe.default_refiners), ())
        chain += [Component(*find(name, ("refiner",))) for name in defaults]
    return [*chain, last]


def spelled(expression: str) -> str:
    """The one spelling of an expression: without the blanks around its words."""
    return "+".join(word.strip() for word in expression.split("+"))


def _words(expression: str) -> list[str]:
    words = spelled(expression).split("+")
    if not all(words):
        raise WrongInput(f"{expression!r} has an empty part; an expression is names joined by '+', such as lpcam+amn")
    for word in words:
        if len(parts := [part for part in re.split(r"[\s,;/&|]", word) if part]) > 1:
            raise WrongInput(f"there is no method or refiner called {word!r}; did you mean {'+'.join(parts)!r}?")
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise WrongInput(f"{expression!r} names {twice} twice; once is right")
    return words


def _check_places(named: Sequence[Component]) -> None:
    for kind in SINGLE:
        same = [part.recipe.name for part in named if part.recipe.kind == kind and not part.continues]
        if len(same) > 1:
            raise WrongInput(f"{' and '.join(same)} are both of kind {kind}; an expression takes one")


def _with_add_ons(named: Sequence[Component]) -> list[Component]:
    """The other components with their add-ons; an add-on adds to the last training of a network before it in the expression.

    Without such a training before it, it adds to the expression's network, or to the base network if none is named.
    """
    chain = [component for component in named if component.recipe.kind not in ADD_ONS]
    if not any(component.recipe.kind == "network" for component in chain):
        chain.append(Component(*find(BASE_NETWORK, ("network",)), named=False))
    base = next(place for place, component in enumerate(chain) if component.recipe.kind == "network")
    host, place = base, -1
    for component in named:
        if component.recipe.kind not in ADD_ONS:
            place += 1
            host = place if component.trains_a_network else host
        else:
            chain[host] = replace(chain[host], add_ons=(*chain[host].add_ons, component.recipe))
    return chain


def learns_from_masks(segmenter: Recipe) -> bool:
    """Whether a segmenter trains on pseudo masks."""
    return any("masks" in stage.reads for stage in segmenter.stages)
