"""Imported results: which stages of an expression they replace.

The recipe `imported` declares one stage for each kind of result; its setting of the same name switches it on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from imagesets.errors import WrongInput
from orchestrator.planning.recipe import Recipe, StageRecipe
from orchestrator.planning.recipes import load_all

IMPORTED = "imported"  # the recipe, which is also the component of its stages
OFF = "none"
HELP = {  # help of the launch options; `wsss-orch show imported` describes the files in full
    "network": "A state dict, or a bundle of `export`, that replaces the training of the method's network, such as cam.",
    "maps": "Folder of <id>.npy (IRN's) or <id>.npz that replace the method's maps; its thresholds stay.",
    "masks": "Folder of <id>.png label maps that replace the pseudo masks for the segmenter.",
}


def assignments(**given: Path | None) -> list[str]:
    """The `--set` strings that import the files `given` by kind."""
    return [f"{IMPORTED}.{kind}={path}" for kind, path in given.items() if path is not None]


def in_place(parts: Sequence[tuple[Recipe, StageRecipe]], settings: Mapping[str, Any]) -> dict[int, StageRecipe]:
    """The imports that `settings` switch on; the key is the place in `parts` of the stage that each replaces."""
    found = {}
    for part in wanted(settings):
        places = [
            place for place, (recipe, stage) in enumerate(parts) if stage.writes == part.writes and recipe.kind in part.replaces
        ]
        if not places:
            method = "+".join(dict.fromkeys(recipe.name for recipe, _ in parts))
            raise WrongInput(f"{method} makes no {part.writes} that {IMPORTED}.{part.name} could replace; leave it out")
        replaced = parts[places[-1]][1]
        of_network = replaced.provides if replaced.network else ()  # the same network with other weights; files of maps are plain
        found[places[-1]] = msgspec.structs.replace(part, network=replaced.network, provides=of_network)
    return found


def wanted(settings: Mapping[str, Any]) -> list[StageRecipe]:
    """The imports that `settings` switch on."""
    return [part for part in load_all()[IMPORTED].stages if settings[f"{IMPORTED}.{part.name}"] != OFF]
