"""Imported results: which stages of an expression they take the place of.

The recipe `imported` declares one stage for each kind of result; its setting of the same name switches it on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from imagesets.errors import WrongInput
from orchestrator.planning.recipes import Recipe, StageRecipe, load_all

IMPORTED = "imported"  # the recipe, and the component that its stages count as
OFF = "none"
HELP = {  # of the launch options; `wsss-orch show imported` tells the files' forms in full
    "network": "A state dict in place of training the method's network component, such as cam.",
    "maps": "Folder of <id>.npy (IRN's) or <id>.npz in place of the method's maps, with its thresholds: lpcam's for lpcam+irn.",
    "masks": "Folder of <id>.png label maps in place of the pseudo masks that the segmenter learns.",
}


def assignments(**given: Path | None) -> list[str]:
    """The `--set` strings that import what is `given` by its kind."""
    return [f"{IMPORTED}.{kind}={path}" for kind, path in given.items() if path is not None]


def in_place(parts: Sequence[tuple[Recipe, StageRecipe]], settings: Mapping[str, Any]) -> dict[int, StageRecipe]:
    """The imports that `settings` switch on, by the place in `parts` (component, its stage) of the stage that each replaces."""
    found = {}
    for part in wanted(settings):
        places = [
            place for place, (recipe, stage) in enumerate(parts) if stage.writes == part.writes and recipe.kind in part.replaces
        ]
        if not places:
            method = "+".join(dict.fromkeys(recipe.name for recipe, _ in parts))
            raise WrongInput(f"{method} makes no {part.writes} whose place {IMPORTED}.{part.name} could take; leave it out")
        replaced = parts[places[-1]][1]
        found[places[-1]] = msgspec.structs.replace(part, network=replaced.network, provides=replaced.provides)
    return found


def wanted(settings: Mapping[str, Any]) -> list[StageRecipe]:
    """The imports that `settings` switch on."""
    return [part for part in load_all()[IMPORTED].stages if settings[f"{IMPORTED}.{part.name}"] != OFF]
