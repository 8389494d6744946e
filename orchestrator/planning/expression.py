"""Method expressions: `a+b+c` folded over a few words into the stages of a run.

Every stage reads and rebinds words (network, maps, labels, fitted, affinity, masks, segmenter, predictions). The recipes say
which; folding the components in a fixed order is all there is to it. Stages that nobody reads are pruned.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning import scores
from orchestrator.planning.imports import IMPORTED, in_place, wanted
from orchestrator.planning.recipes import FOLD_ORDER, Recipe, StageRecipe, find, load_all

BASE_NETWORK = "cam"  # what an expression without a network starts from
SINGLE = ("network", "reactivation", "extractor", "relearning")  # one name fits each of these places


@dataclass(frozen=True)
class Stage:
    """One stage of a run: what runs, with which settings, on which stages' results."""

    name: str  # "lpcam-maps": readable, not part of the key
    component: str
    recipe: StageRecipe
    settings: Mapping[str, Any] = field(hash=False)
    inputs: Mapping[str, "Stage"] = field(hash=False)  # word -> the stage that wrote it
    scores: str = ""  # of an evaluation: the quantity
    in_place_of: str = ""  # of an imported result: the component whose place it takes


def components(expression: str, segmenter: str) -> list[tuple[Recipe, dict[str, Any], bool]]:
    """The recipes of an expression in folding order, each with its variant's settings and whether it was named."""
    words = [word.strip() for word in expression.split("+")]
    if not all(words):
        raise WrongInput(f"{expression!r} has an empty part; an expression is names joined by '+', such as lpcam+amn")
    named = [find(word, FOLD_ORDER[:-1]) for word in words]
    for kind in SINGLE:
        same = [recipe.name for recipe, _ in named if recipe.kind == kind]
        if len(same) > 1:
            raise WrongInput(f"{' and '.join(same)} are both of kind {kind}; an expression takes one")
    chain = [(recipe, variant, True) for recipe, variant in named]
    if not any(recipe.kind == "network" for recipe, _ in named):
        chain.append((*find(BASE_NETWORK, ("network",)), False))
    chain.sort(key=lambda part: FOLD_ORDER.index(part[0].kind))  # stable: refiners stay in the order written
    if not any(recipe.kind == "refiner" for recipe, _ in named):
        defaults = next((part[0].default_refiners for part in reversed(chain) if part[0].default_refiners), ())
        if chain[-1][0].kind == "network" and not chain[-1][0].default_refiners:
            defaults = ()
        chain += [(*find(name, ("refiner",)), True) for name in defaults]
    return [*chain, (*find(segmenter, ("segmenter",)), True)]


def expand(chain: Iterable[tuple[Recipe, dict[str, Any], bool]], settings: Mapping[str, Any]) -> list[Stage]:
    """Fold the components into stages with exactly the settings each receives; unread stages are left out."""
    placed = _placed(list(chain), settings)
    parts = [(recipe, owner, part) for recipe, _, _ in placed for owner, part in _stages_of(recipe)]
    imported = in_place([(recipe, part) for recipe, _, part in parts], settings)
    bound: dict[str, Stage] = {}
    stages: list[Stage] = []
    for place, (recipe, owner, part) in enumerate(parts):
        if place in imported:
            own = load_all()[IMPORTED]
            stage = replace(_bind(own, imported[place], bound, settings, own), in_place_of=recipe.name)
        else:
            stage = _bind(owner, part, bound, settings, recipe)
        stages.append(stage)
        bound[part.writes] = stage
    kept = _pruned(stages, {IMPORTED, *(recipe.name for recipe, _, was_named in placed if was_named)}, settings)
    _check_imports_are_read(kept, settings)
    return kept


def _placed(chain: list[tuple[Recipe, dict[str, Any], bool]], settings: Mapping[str, Any]) -> list[Any]:
    """The chain with a component behind the one that its setting `after` names, if it names any (lpcam.on=amn)."""
    for part in [part for part in chain if part[0].after]:
        setting = f"{part[0].name}.{part[0].after}"
        places = {recipe.name: place for place, (recipe, _, _) in enumerate(chain)}
        if settings[setting] in places:
            chain.insert(places[settings[setting]], chain.pop(places[part[0].name]))
        elif settings[setting] != "network":
            raise WrongInput(
                f"{setting}={settings[setting]} needs {settings[setting]} in the expression, which has {'+'.join(places)}"
            )
    return chain


def _stages_of(recipe: Recipe) -> Iterable[tuple[Recipe, StageRecipe]]:
    """A recipe's stages with `use: crf.labels` replaced by that shared stage and its owner."""
    for part in recipe.stages:
        if not part.use:
            yield recipe, part
            continue
        owner_name, _, name = part.use.partition(".")
        owner = load_all()[owner_name]
        yield owner, next(shared for shared in owner.shared_stages if shared.name == name)


def _bind(owner: Recipe, part: StageRecipe, bound: Mapping[str, Stage], settings: Mapping[str, Any], within: Recipe) -> Stage:
    reads = [*part.reads, *(word for word, when in part.reads_if.items() if when.items() <= settings.items())]
    missing = [word for word in reads if word not in bound]
    if missing:
        raise WrongInput(f"{within.name} needs {' and '.join(missing)}, which nothing before it in the expression makes")
    inputs = {word: bound[word] for word in reads}
    return Stage(f"{within.name}-{part.name}", within.name, part, _received(owner, part, inputs, settings), inputs)


def _received(owner: Recipe, part: StageRecipe, inputs: Mapping[str, Stage], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a stage lists: its own by bare name, shared ones and those of a word's writer by prefix."""
    received = {}
    for listed in part.settings:
        prefix, dot, name = listed.partition(".")
        if not dot:
            received[listed] = settings[f"{owner.name}.{listed}"]
        elif prefix in inputs:
            writer = inputs[prefix].in_place_of or inputs[prefix].component
            wanted = f"{writer}.{name}"
            if wanted not in settings:
                raise WrongInput(f"{owner.name} cannot work on {writer}: that has no setting {name!r}")
            received[listed] = settings[wanted]
        elif name == "*":
            received |= {key: value for key, value in settings.items() if key.startswith(f"{prefix}.")}
        else:
            received[listed] = settings[listed]
    return received


def _pruned(stages: list[Stage], named: set[str], settings: Mapping[str, Any]) -> list[Stage]:
    """The stages that the last pseudo masks and the segmentation come from, each scored one followed by its evaluation."""
    kept: set[int] = set()

    def keep(stage: Stage) -> None:
        if id(stage) not in kept:
            kept.add(id(stage))
            for source in stage.inputs.values():
                keep(source)

    keep(stages[-1])
    wanted = []
    for stage in stages:
        if id(stage) not in kept:
            continue
        wanted.append(stage)
        if stage.component in named:
            wanted += evaluations(stage, settings)
    return wanted


def evaluations(stage: Stage, settings: Mapping[str, Any]) -> list[Stage]:
    """The evaluations of a stage: of each quantity that it is scored as one by every recipe that scores it."""
    made = []
    for quantity in scores.of_stage(stage.recipe):
        for recipe, part in scores.stages(quantity):
            own = stage.recipe.scored in recipe.quantities  # the recipe that says what the stage is scored as
            name = f"{stage.name}-score" if own else f"{stage.name}-{recipe.name}-score"
            inputs = {part.reads[0]: stage}
            made.append(Stage(name, stage.component, part, _received(recipe, part, inputs, settings), inputs, quantity))
    return made


def _check_imports_are_read(stages: Sequence[Stage], settings: Mapping[str, Any]) -> None:
    """Raise WrongInput for an import that no stage reads: it would be ignored without a word."""
    kept = {stage.recipe.name for stage in stages if stage.component == IMPORTED}
    for part in wanted(settings):
        if part.name not in kept:
            raise WrongInput(f"nothing in this run would read {IMPORTED}.{part.name}; leave it out")
