"""Imported results: which stages of an expression they take the place of, and whether they are fit for it.

The recipe `imported` declares one stage for each kind of result; its setting of the same name switches it on.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesets.errors import WrongInput
from orchestrator.planning.recipes import Recipe, StageRecipe, load_all

if TYPE_CHECKING:
    from orchestrator.planning.expression import Stage
    from orchestrator.planning.plan import Step

IMPORTED = "imported"  # the recipe, and the component that its stages count as
OFF = "none"
HELP = {  # of the launch options; `wsss-orch show imported` tells the files' forms in full
    "network": "A state dict in place of training the method's network component, such as cam.",
    "maps": "Folder of <id>.npy (IRN's) or <id>.npz in place of the method's maps, with its thresholds: lpcam's for lpcam+irn.",
    "masks": "Folder of <id>.png label maps in place of the pseudo masks that the segmenter learns.",
}


def assignments(**given: Path | None) -> list[str]:
    """The `--set` strings that import what is `given` by its kind."""
    # as JSON, which is YAML: a path may hold whatever YAML gives a meaning
    return [f"{IMPORTED}.{kind}={json.dumps(str(path))}" for kind, path in given.items() if path is not None]


def in_place(parts: Sequence[tuple[Recipe, StageRecipe]], settings: Mapping[str, Any]) -> dict[int, StageRecipe]:
    """The imports that `settings` switch on, by the place in `parts` (component, its stage) of the stage that each replaces."""
    found = {}
    for part in _wanted(settings):
        places = [
            place for place, (recipe, stage) in enumerate(parts) if stage.writes == part.writes and recipe.kind in part.replaces
        ]
        if not places:
            method = "+".join(dict.fromkeys(recipe.name for recipe, _ in parts))
            raise WrongInput(f"{method} makes no {part.writes} whose place {IMPORTED}.{part.name} could take; leave it out")
        found[places[-1]] = part.model_copy(update={"network": parts[places[-1]][1].network})
    return found


def check_read(stages: Sequence["Stage"], settings: Mapping[str, Any]) -> None:
    """Raise WrongInput for an import that no stage reads: it would be ignored without a word."""
    kept = {stage.recipe.name for stage in stages if stage.component == IMPORTED}
    for part in _wanted(settings):
        if part.name not in kept:
            raise WrongInput(f"nothing in this run would read {IMPORTED}.{part.name}; leave it out")


def imports_of(steps: Sequence["Step"]) -> dict[str, str]:
    """What a protocol says of the imported ones among the steps that a result comes from."""
    return {
        f"imported {step.stage.recipe.name}": f"{_content(step)} in place of {step.stage.in_place_of}'s"
        for step in steps
        if step.stage.component == IMPORTED and not step.stage.scores
    }


def _content(step: "Step") -> str:
    """What identifies an imported result anywhere: "content" and the beginning of its hash."""
    return step.identity["settings"][f"{IMPORTED}.{step.stage.recipe.name}"][: len("content ") + 12]


def _wanted(settings: Mapping[str, Any]) -> list[StageRecipe]:
    return [part for part in load_all()[IMPORTED].stages if settings[f"{IMPORTED}.{part.name}"] != OFF]
