"""Which components go together: every combination expanded into stages, as a run would be, and why the others are refused.

A combination is a network with a chain of reactivation and extractor, a relearning, and a refiner; and a network with an add-on.
The settings are the defaults on VOC 2012. A combination that only its backbone prevents is tried with the default backbone.
Networks that make no maps (supervised) are left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from imagesets.errors import WrongInput
from orchestrator.planning.components import Component
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.recipe import ADD_ONS
from orchestrator.planning.recipes import load_all
from orchestrator.planning.workers import WORKERS

IMAGES = "voc12:"
BACKBONE = re.compile(r"(backbone\.name|\S+\.backbone)=")  # a setting that names a network's architecture


@dataclass(frozen=True)
class Verdict:
    """Why an expression is refused (`why`, empty if it is not), and the setting with which it works (`way`)."""

    why: str = ""
    way: str = ""

    @property
    def note(self) -> str:
        """The reason in words."""
        return f"works with --set {self.way}: {self.why}" if self.way else self.why


@dataclass(frozen=True)
class Row:
    """A network with chains before the refiner that go together with the same refiners; verdicts by refiner and relearning."""

    network: str
    chains: list[str]  # "", recam, recam+lpcam, ...
    verdicts: dict[str, dict[str, Verdict]]


def rows() -> Iterator[Row]:
    """All networks with all chains, relearnings and refiners; chains with equal verdicts in one row."""
    for network in networks():
        alike: dict[str, Row] = {}
        for chain in chains():
            verdicts = {
                refiner: {name: verdict(network, chain, name, refiner) for name in relearnings()}
                for refiner in of_kind("refiner")
            }
            alike.setdefault(repr(verdicts), Row(network, [], verdicts)).chains.append(chain)
        yield from alike.values()


def add_ons() -> dict[str, dict[str, Verdict]]:
    """The verdict of each network with each add-on and mixing."""
    names = [name for kind in ADD_ONS for name in of_kind(kind)]
    return {network: {name: verdict(network, name) for name in names} for network in networks()}


def networks() -> list[str]:
    """The networks that make maps."""
    return [name for name in of_kind("network") if any(stage.writes == "maps" for stage in load_all()[name].stages)]


def relearnings() -> list[str]:
    """The relearnings; "" for none."""
    return ["", *of_kind("relearning")]


def of_kind(kind: str) -> list[str]:
    """The names of a kind's components, the base network first."""
    return sorted((recipe.name for recipe in load_all().values() if recipe.kind == kind), key=lambda name: (name != "cam", name))


def chains() -> Iterator[str]:
    """What may follow a network: reactivation and extractors, also an extractor that goes on from the maps of another one."""
    going_on = [name for name in of_kind("extractor") if Component(load_all()[name]).continues]
    others = [name for name in of_kind("extractor") if name not in going_on]
    for parts in product(["", *of_kind("reactivation")], ["", *others], ["", *going_on]):
        yield "+".join(filter(None, parts))


def verdict(*parts: str) -> Verdict:
    """The verdict of an expression of these parts; empty ones are left out."""
    expression = "+".join(filter(None, parts))
    why = _refusal(expression).replace(f" of {parts[0]}", "")
    if chosen := BACKBONE.search(why):
        way = f"{chosen[1]}={load_all()['backbone'].settings['name'].default}"
        return Verdict(why, "" if _refusal(expression, way) else way)
    return Verdict(why)


def _refusal(expression: str, *assignments: str) -> str:
    """Why an expression is refused, without what is there instead; "" if it is expanded."""
    try:
        # a given number of workers is one expansion less
        experiment(Request(expression, IMAGES, assignments=(*assignments, f"{WORKERS}=1")))
    except WrongInput as error:
        return re.sub("; it provides [^;]*", "", str(error))
    return ""
