"""The plan of a run: every stage with its key, and whether its result exists, is missing or is stale, and why.

A key is the hash of all that a stage's result depends on: its code, the settings it receives, the random seed, the images
(and masks) it reads, and the keys of its inputs. Planning only reads.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesets.image_set import ImageSet
from imagesets.item_list import ItemList
from orchestrator.planning.estimate import Estimate, estimate
from orchestrator.planning.fingerprint import Fingerprints
from orchestrator.planning.recipe import Reference, Setting
from orchestrator.planning.settings import PRESETS
from orchestrator.planning.stage import Stage, covering
from orchestrator.storage.store import FORMAT, Store, digest, read_manifest

LOOP = "training.loop:train"  # what runs every training, though no stage's function refers to it


@dataclass
class PlannedStage:
    """One stage of a plan."""

    stage: Stage
    key: str
    identity: dict[str, Any]  # the key is the hash of this
    folder: Path
    items: ItemList
    inputs: dict[str, "PlannedStage"]
    manifest: dict[str, Any] | None = None  # the manifest of a finished result that still fits its inputs
    reason: str = ""  # why it will run
    estimate: Estimate | None = None  # what making it will take, if an earlier result tells
    run: str = ""  # the name of its run, if the launch has several

    @property
    def name(self) -> str:
        """The stage's name in messages."""
        return f"{self.stage.name} [{self.run}]" if self.run else self.stage.name

    @property
    def cached(self) -> bool:
        """Whether the result exists and is current."""
        return self.manifest is not None


class Planner:
    """Plans stages over one image set and one store; `declared` says which settings are files."""

    def __init__(self, store: Store, images: ImageSet, declared: Mapping[str, Setting]):
        self.store, self.images, self.declared = store, images, declared
        self.fingerprints = Fingerprints(store.root)
        self.files = {name for name, setting in declared.items() if setting.file}
        self.folders = {name for name, setting in declared.items() if setting.folder}
        self.keyless = {name for name, setting in declared.items() if not setting.keyed}
        self._items: dict[tuple[str, bool], ItemList] = {}
        self._folders: dict[str, Path] = {}
        self._contents: dict[tuple[str, bool], dict[str, str]] = {}

    def plan(self, stages: Sequence[Stage], random_seed: int, run: str = "") -> list[PlannedStage]:
        """The planned `stages`, in order, for one random seed; `run` names them if a launch has several runs.

        Scores that need masks of a list without any are left out. If a reader needs a list that a per-image stage does not go
        over, the stage is planned over that list as well.
        """
        steps: dict[str, PlannedStage] = {}

        def planned(stage: Stage) -> PlannedStage:
            if stage.name not in steps:
                inputs = {word: planned(covering(source, stage.list_name, self.holds)) for word, source in stage.inputs.items()}
                steps[stage.name] = self._step(stage, inputs, random_seed, run)
            return steps[stage.name]

        for stage in stages:
            if not (stage.scores and stage.recipe.truth) or self.images.has_masks(stage.list_name):
                planned(stage)
        return list(steps.values())

    def items(self, list_name: str, with_masks: bool) -> ItemList:
        """The items of a list."""
        wanted = (list_name, with_masks)
        if wanted not in self._items:
            self._items[wanted] = self.images.items(*wanted)
        return self._items[wanted]

    def holds(self, list_name: str, other: str) -> bool:
        """Whether a list holds all images of another list."""
        return list_name == other or set(self.images.ids(other)).issubset(self.images.ids(list_name))

    def _step(self, stage: Stage, inputs: dict[str, PlannedStage], random_seed: int, run: str) -> PlannedStage:
        items = self.items(stage.list_name, stage.recipe.truth)
        identity = {
            "format": FORMAT,
            "code": self.fingerprints.of_code(*self._code(stage)),
            "settings": self._keyed(stage),
            "random_seed": random_seed,
            "purpose": stage.purpose,
            "classes": self.images.classes,
            **self._content(stage.list_name, stage.recipe.truth),
            "inputs": {word: source.key for word, source in inputs.items()},
        }
        key = digest(json.dumps(identity, sort_keys=True).encode())
        folder = self._folders.setdefault(
            key, self.store.folder(stage.name, key)
        )  # stages with the same key share it, whatever their names
        step = PlannedStage(stage, key, identity, folder, items, inputs, run=run)
        self.look(step)
        results = self.store.results(stage.name)
        step.estimate = estimate(stage.recipe.kind, identity, len(items), len(items), results)
        if not step.cached:
            step.reason = reason(step, max(results, key=lambda made: made["finished"], default=None))
        return step

    def _code(self, stage: Stage) -> list[str]:
        """The functions whose code a stage's result depends on, except those in its inputs' keys."""
        recipe = stage.recipe
        readers = [source.recipe.read for source in stage.inputs.values()]
        found = [recipe.call, recipe.network, recipe.result, LOOP if recipe.kind == "train" else "", *readers]
        return [*filter(None, found), *(add_on.call for add_on in stage.add_ons.values())]

    def _content(self, list_name: str, with_masks: bool) -> dict[str, str]:
        """The fingerprints of a list's images and, for a stage that sees them, masks; each list is looked up once."""
        wanted = (list_name, with_masks)
        if wanted not in self._contents:
            items = self.items(*wanted)
            masks = self.fingerprints.of_masks(items) if with_masks else ""
            self._contents[wanted] = {"images": self.fingerprints.of_images(items), "masks": masks}
        return self._contents[wanted]

    def look(self, step: PlannedStage) -> None:
        """Add a finished result to the plan if it was made from the present results of its inputs."""
        manifest = read_manifest(step.folder)
        current = {word: source.manifest and source.manifest["digest"] for word, source in step.inputs.items()}
        step.manifest = manifest if manifest and manifest["made_from"] == current else None

    def _keyed(self, stage: Stage) -> dict[str, Any]:
        """The settings in the form of the key: a file or a folder counts by its content, a function by its code."""
        keyed = {}
        for name, value in stage.settings.items():
            if stage.owned[name] in self.keyless:
                continue
            keyed[name] = value
            if isinstance(value, Reference):
                keyed[name] = f"code {self.fingerprints.of_code(value)}"
            elif stage.owned[name] in self.files and value not in PRESETS:
                keyed[name] = f"content {self.fingerprints.of_file(Path(value))}"
            elif stage.owned[name] in self.folders and value not in PRESETS:
                ids = self.items(stage.list_name, with_masks=False).names()
                keyed[name] = f"content {self.fingerprints.of_folder(Path(value), ids)}"
        return keyed


def reason(step: PlannedStage, newest: Mapping[str, Any] | None) -> str:
    """Why a stage is not cached: its differences from the newest result of that name."""
    waiting = [source.stage.name for source in step.inputs.values() if not source.cached]
    if newest is None:
        return "not made yet"
    if newest["key"] == step.key:
        return "its inputs were made anew"
    before, now = newest["identity"], step.identity
    old, new = before["settings"] | newest.get("names", {}), now["settings"] | step.stage.names
    changed = [
        f"{name} {old.get(name, 'unset')} -> {new.get(name, 'unset')}"
        if old.get(name) != new.get(name)
        else f"{name} {new[name]} changed"
        for name in sorted({*old, *new})
        if before["settings"].get(name) != now["settings"].get(name)
    ]
    names = {"code": "the code it runs", "classes": "the classes", "images": "the images or labels", "masks": "the masks"}
    changed += [
        f"{what} changed" for name, what in names.items() if before[name] != (list(now[name]) if name == "classes" else now[name])
    ]
    if before["random_seed"] != now["random_seed"]:
        changed.append(f"random seed {before['random_seed']} -> {now['random_seed']}")
    if not changed and before["inputs"] != now["inputs"]:
        changed.append("its input " + " and ".join(waiting or step.inputs) + " changed")
    return "stale because " + ", ".join(changed) if changed else "not made yet"
