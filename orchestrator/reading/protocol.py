"""The protocol that a result was made under: how it was measured, on what, and the settings that its recipes name as telling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.planning.expression import Stage
from orchestrator.planning.imports import IMPORTED
from orchestrator.planning.launch import Prepared
from orchestrator.planning.plan import PlannedStage
from orchestrator.planning.recipes import Recipe, load_all
from orchestrator.planning.settings import PRESETS

DIGITS = 8  # of a digest, in what people read


def protocol(prepared: Prepared, steps: Sequence[PlannedStage]) -> dict[str, Any]:
    """Of the evaluations of one stage on one list what they and all that they come from were made with, beside what they say."""
    first, behind = steps[0], list({key: source for step in steps for key, source in ancestors(step).items()}.values())
    telling = {f"{recipe.name}.{name}" for recipe in load_all().values() for name in recipe.protocol}
    received = dict.fromkeys(full_name(source.stage, name) for source in behind for name in source.stage.settings)
    return {
        **{name: shown(prepared.settings[name]) for name in received if name in telling},
        **imports(behind),
        "split": list_of(prepared, first),
        "images": len(first.items),
        "labels from": prepared.images.label_source,
        "trained on": prepared.settings["images.training"],
    }


def list_of(prepared: Prepared, step: PlannedStage) -> str:
    """The name of the image list that a stage goes over."""
    return prepared.settings[f"images.{step.stage.recipe.list}"]


def ancestors(step: PlannedStage) -> dict[str, PlannedStage]:
    """All that a stage comes from by key, and last the stage itself."""
    found: dict[str, PlannedStage] = {}
    for source in step.inputs.values():
        found |= ancestors(source)
    return found | {step.key: step}


def imports(steps: Sequence[PlannedStage]) -> dict[str, str]:
    """What a protocol says of the imported ones among the stages that a result comes from."""
    return {
        f"imported {step.stage.recipe.name}": f"{_content(step)} in place of {step.stage.in_place_of}'s"
        for step in steps
        if step.stage.component == IMPORTED and not step.stage.scores
    }


def shown(value: Any) -> Any:
    """A setting as a protocol tells it: of a file of weights, its name and what identifies it anywhere."""
    if not isinstance(value, str) or value in PRESETS or not Path(value).is_file():
        return value
    from backbones import weights_digest  # loads torch

    return f"{Path(value).name} (sha256 {weights_digest(value)[:DIGITS]})"


def full_name(stage: Stage, received: str) -> str:
    """The full name of a setting that a stage receives by its own name or by that of a word that it reads."""
    prefix, dot, name = received.partition(".")
    if not dot:
        return f"{owner(stage).name}.{received}"
    if prefix in stage.inputs:
        source = stage.inputs[prefix]
        return f"{source.in_place_of or source.component}.{name}"
    return received


def owner(stage: Stage) -> Recipe:
    """The recipe that declares a stage, which another one may use."""
    return next(recipe for recipe in load_all().values() if stage.recipe in (*recipe.stages, *recipe.shared_stages))


def _content(step: PlannedStage) -> str:
    """What identifies an imported result anywhere: "content" and the beginning of its hash."""
    return step.identity["settings"][f"{IMPORTED}.{step.stage.recipe.name}"][: len("content ") + DIGITS]
