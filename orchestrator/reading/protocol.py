"""The protocol of a result: how it was measured, on what, and the settings that recipes list under `protocol`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagesets.files import sha256
from orchestrator.planning.in_place import IMPORTED
from orchestrator.planning.planned_stage import PlannedStage, ancestors
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipe import AUTO, Recipe
from orchestrator.planning.recipes import load_all
from orchestrator.planning.settings import NO_FILE, SAW
from orchestrator.planning.stage import Stage

THRESHOLD_BY = "threshold by"  # how the threshold of a score was found, if it was not fixed before
SALIENCY = "images.saliency"  # the setting that every stage which reads saliency maps receives
WITH_SALIENCY = "image-level labels + saliency"
DIGITS = 8  # characters of a digest that are shown


def protocol(prepared: Prepared, steps: Sequence[PlannedStage]) -> dict[str, Any]:
    """The protocol of one stage's evaluations on one list: their own entries, and the settings of all stages behind them."""
    first, behind = steps[0], list({key: source for step in steps for key, source in ancestors(step).items()}.values())
    telling = {f"{recipe.name}.{name}" for recipe in load_all().values() for name in recipe.protocol}
    received = dict.fromkeys(name for source in behind for name in source.stage.owned.values())
    return {
        **{name: _told(prepared, name) for name in received if name in telling},
        **imports(behind),
        **({THRESHOLD_BY: AUTO} if any(source.stage.recipe.chooses for source in first.inputs.values()) else {}),
        **({"supervision": WITH_SALIENCY} if SALIENCY in received else {}),
        "split": first.stage.list_name,
        "images": len(first.items),
        "labels from": prepared.images.label_source,
        **({"made by rule": prepared.images.origin} if prepared.images.origin else {}),
        "trained on": prepared.settings["images.training"],
    }


def way(protocol: Mapping[str, Any]) -> str:
    """How the threshold of a score was found: "fixed" or "auto"."""
    return protocol.get(THRESHOLD_BY, "fixed")


def measured(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol without what the run itself has chosen, which its repeats may choose otherwise."""
    return {name: value for name, value in protocol.items() if name != "threshold" or THRESHOLD_BY not in protocol}


def imports(steps: Sequence[PlannedStage]) -> dict[str, str]:
    """The entries of a protocol for imported stages behind a result."""
    return {
        f"imported {step.stage.recipe.name}": f"{_content(step)} in place of {step.stage.in_place_of}'s"
        for step in steps
        if step.stage.component == IMPORTED and not step.stage.scores
    }


def shown(value: Any) -> Any:
    """A setting in a protocol; a file of weights is shown by its name and its content."""
    if not isinstance(value, str) or value in NO_FILE or not Path(value).is_file():
        return value
    return f"{Path(value).name} (sha256 {sha256(value)[:DIGITS]})"


def _told(prepared: Prepared, name: str) -> Any:
    """A setting in a protocol; what weights saw is known unless they are a file."""
    settings, setting = prepared.settings, prepared.planner.declared[name]
    if not setting.told_of:
        return shown(settings[name])
    return SAW.get(settings[f"{name.partition('.')[0]}.{setting.told_of}"], settings[name])


def owner(stage: Stage) -> Recipe:
    """The recipe that declares a stage; another recipe may use the stage."""
    return next(recipe for recipe in load_all().values() if stage.recipe in (*recipe.stages, *recipe.shared_stages))


def _content(step: PlannedStage) -> str:
    """The content of an imported result: "content" and the beginning of its hash."""
    return step.identity["settings"][f"{IMPORTED}.{step.stage.recipe.name}"][: len("content ") + DIGITS]
