"""The protocol that a result was made under: how it was measured, on what, and the settings that its recipes name as telling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.planning.in_place import IMPORTED
from orchestrator.planning.launch import Prepared
from orchestrator.planning.plan import PlannedStage
from orchestrator.planning.recipe import Recipe
from orchestrator.planning.recipes import load_all
from orchestrator.planning.settings import PRESETS
from orchestrator.planning.stage import Stage

DIGITS = 8  # of a digest, in what people read


def protocol(prepared: Prepared, steps: Sequence[PlannedStage]) -> dict[str, Any]:
    """Of the evaluations of one stage on one list what they and all that they come from were made with, beside what they say."""
    first, behind = steps[0], list({key: source for step in steps for key, source in ancestors(step).items()}.values())
    telling = {f"{recipe.name}.{name}" for recipe in load_all().values() for name in recipe.protocol}
    received = dict.fromkeys(name for source in behind for name in source.stage.owned.values())
    return {
        **{name: shown(prepared.settings[name]) for name in received if name in telling},
        **imports(behind),
        "split": first.stage.list_name,
        "images": len(first.items),
        "labels from": prepared.images.label_source,
        "trained on": prepared.settings["images.training"],
    }


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


def owner(stage: Stage) -> Recipe:
    """The recipe that declares a stage, which another one may use."""
    return next(recipe for recipe in load_all().values() if stage.recipe in (*recipe.stages, *recipe.shared_stages))


def _content(step: PlannedStage) -> str:
    """What identifies an imported result anywhere: "content" and the beginning of its hash."""
    return step.identity["settings"][f"{IMPORTED}.{step.stage.recipe.name}"][: len("content ") + DIGITS]
