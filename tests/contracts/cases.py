"""Every stage of every recipe with an expression that runs it. The expressions are found, not listed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

from imagesets.errors import WrongInput
from orchestrator.planning.components import Component
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.recipe import ADD_ONS, FOLD_ORDER, Recipe, StageRecipe
from orchestrator.planning.recipes import load_all
from orchestrator.planning.settings import declared
from orchestrator.planning.stage import Stage

SEGMENTER = "deeplabv2"  # the segmenter behind a recipe that needs one
# tiny values of every setting of that name, in any recipe; a run then takes a second
TINY = {
    "crop": 32,
    "batch": 4,
    "epochs": 1,
    "begin": 0,
    "iterations": 2,
    "long_side": [32, 40],
    "scales": [1.0, 0.5],
    "test_scales": [1.0, 0.5],
    "width": 8,
    "fit": [64, 48],
    "test_fit": [64, 48],
    "drop_path": 0.0,
}
OWN = {  # what the rule above does not make tiny
    "affinitynet.radius": 2,
    "edam.warm_up": 1,
    "irn.pair_radius": 4,
    "lpcam.clusters": 2,
    "mctformer.backbone": "small_vit",
    "mctformer.policy": "none",
    "pmm.window": 48,
    "pmm.window_scales": [1.0],
    "recurseed.certain_foreground": 0.2,  # at 0.55, rounding decides whether an untrained decoder is sure of anything
    "recurseed.head_lr": 0.01,  # as SIPE's rates
    "recurseed.low_width": 8,
    "recurseed.lr": 0.001,
    "recurseed.rec_begin": 0,
    "recurseed.seg_begin": 0,
    "sipe.head_lr": 0.01,  # at SIPE's own rates, bfloat16 soon chooses other seeds than float32
    "sipe.lr": 0.001,
    "spatial-bce.side": 32,
}
SHARED = {"training.workers": 1, "training.loaders": 0}
ASKED = ("images.classification=train",)  # scores that are made only where a setting asks for them


@dataclass(frozen=True)
class Case:
    """A stage of the recipe `component`, and an expression that runs it."""

    component: str
    expression: str
    segmenter: str
    stage: Stage
    further: tuple[str, ...] = ()  # settings without which the stage does not exist

    @property
    def name(self) -> str:
        """The name of the case in test ids."""
        return f"{self.expression}:{self.stage.name}"


@cache
def tiny() -> tuple[str, ...]:
    """The settings of a tiny run, as they are given on the command line."""
    found: dict[str, object] = {}
    for full, setting in declared(load_all()["folder"]).items():
        if setting.weights_of:
            found[full] = "none"
        elif setting.choices_from == "backbone":
            found[full] = "small"
        elif (name := full.rpartition(".")[2]) in TINY:
            found[full] = TINY[name]
    return tuple(f"{name}={value}" for name, value in (found | OWN | SHARED).items())


def components() -> list[Recipe]:
    """The recipes that an expression may name."""
    return [recipe for recipe in load_all().values() if recipe.kind in (*FOLD_ORDER, *ADD_ONS)]


def names(*kinds: str) -> list[str]:
    return [recipe.name for recipe in load_all().values() if recipe.kind in kinds]


def expressions(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Expressions and segmenters that might run all stages of a recipe, simple ones first."""
    name, networks = recipe.name, names("network")
    if recipe.kind == "segmenter":
        yield from ((f"{network}+none", name) for network in networks)
        yield from ((network, name) for network in networks)
    elif recipe.kind in ADD_ONS:
        yield from ((f"{host.name}+{name}", SEGMENTER) for host in components() if Component(host).trains_a_network)
    else:
        yield name, SEGMENTER
        yield from ((f"{network}+{name}", SEGMENTER) for network in networks if network != name)
        others = [other for other in names("refiner") if other != name]
        yield from ((f"{name}+{other}", SEGMENTER) for other in others)
        yield from ((f"{other}+{name}", SEGMENTER) for other in others if recipe.kind == "refiner")


@cache
def plan(expression: str, segmenter: str, at_defaults: bool = False, further: tuple[str, ...] = ()) -> tuple[Stage, ...]:
    """The stages of an expression, at tiny settings or at defaults; raises WrongInput where it makes no sense."""
    assignments = (*(() if at_defaults else tiny()), *further)
    return tuple(experiment(Request(expression, "folder:x", segmenter, assignments=assignments)).stages)


@cache
def cases_of(name: str) -> tuple[Case, ...]:
    """Each stage of the recipe called `name` once: its own, and for an add-on the training that it adds to."""
    found: dict[tuple[int, str], Case] = {}
    for (expression, segmenter), further in product(expressions(load_all()[name]), switches(load_all()[name])):
        try:
            stages = plan(expression, segmenter, further=further)
        except WrongInput:
            continue
        for stage in stages:
            adds = name if name in stage.add_ons else ""
            if not stage.scores and (adds or stage.component == name):
                found.setdefault((id(stage.recipe) if not adds else 0, adds), Case(name, expression, segmenter, stage, further))
    return tuple(found.values())


def switches(recipe: Recipe) -> list[tuple[str, ...]]:
    """Settings without which some of a recipe's stages do not exist; first none."""
    return [(), *(tuple(f"{name}={value}" for name, value in stage.if_set.items()) for stage in recipe.stages if stage.if_set)]


def declared_stages(recipe: Recipe) -> list[StageRecipe]:
    """A recipe's stages, with those that it takes from other recipes."""
    shared = {
        f"{owner.name}.{stage.name}": stage for owner in load_all().values() for stage in (*owner.shared_stages, *owner.stages)
    }
    return [shared[stage.use] if stage.use else stage for stage in recipe.stages]


def every(kind: str) -> list[Case]:
    """The stages of a kind, each once, even if several recipes use it."""
    cases = [case for recipe in components() for case in cases_of(recipe.name) if case.stage.recipe.kind == kind]
    return list({(id(case.stage.recipe), *case.stage.add_ons): case for case in reversed(cases)}.values())[::-1]


def scores() -> list[Case]:
    """Every stage of every score recipe, on a result that it scores."""
    found: dict[int, Case] = {}
    every = [case for recipe in components() for case in cases_of(recipe.name)]
    for case, further in product(every, ((), ASKED)):
        try:
            stages = plan(case.expression, case.segmenter, further=further)
        except WrongInput:  # none of its networks has a score that is asked for
            continue
        for stage in (stage for stage in stages if stage.scores):
            found.setdefault(id(stage.recipe), Case(stage.component, case.expression, case.segmenter, stage, further))
    return list(found.values())
