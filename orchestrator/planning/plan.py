"""The plan of a run: every stage with its key, and whether its result exists, is missing or is stale, and why.

A key is the hash of all that a stage's result depends on: its code, the settings it receives, the random seed, the images
(and masks) it reads, and the keys of its inputs. A reader's key holds the `family` of each per-image input: its key without the
images, because each record depends on its own image alone. Planning only reads.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from imagesets.image_set import ImageSet
from imagesets.item_list import ItemList
from orchestrator.planning.estimate import Estimate, estimate
from orchestrator.planning.fingerprint import Fingerprints
from orchestrator.planning.planned_stage import PlannedStage, digest_of, reason
from orchestrator.planning.recipe import Reference, Setting
from orchestrator.planning.settings import NO_FILE
from orchestrator.planning.siblings import shared_out
from orchestrator.planning.stage import Stage, over_what_is_read
from orchestrator.storage.store import FORMAT, Store, read_manifest

# what the engine calls for a stage, though the stage's function does not refer to it
LOOP = "training.loop:train"  # for every training
QUICK = "backbones.extraction:for_extraction"  # for every network that another stage reads


class Planner:
    """Plans stages over one image set and one store; `declared` says which settings are files."""

    def __init__(self, store: Store, images: ImageSet, declared: Mapping[str, Setting]):
        self.store, self.images, self.declared = store, images, declared
        self.fingerprints = Fingerprints(store.root)
        self.files = {name for name, setting in declared.items() if setting.file}
        self.folders = {name for name, setting in declared.items() if setting.folder}
        self.keyless = {name for name, setting in declared.items() if not setting.keyed}
        self._items: dict[tuple[str, bool], ItemList] = {}
        self._masked: dict[str, bool] = {}
        self._held: dict[tuple[str, str], bool] = {}
        self._folders: dict[str, Path] = {}
        self._contents: dict[tuple[str, bool], dict[str, str]] = {}

    def plan(self, stages: Sequence[Stage], random_seed: int, run: str = "") -> list[PlannedStage]:
        """The planned `stages`, in order, for one random seed; `run` names them if a launch has several runs.

        Scores that need masks of a list without any are left out. A per-image stage goes over the lists of its readers.
        """
        steps: dict[str, PlannedStage] = {}
        for stage in self.placed(stages):
            inputs = {word: steps[source.name] for word, source in stage.inputs.items()}
            steps[stage.name] = self._step(stage, inputs, random_seed, run)
        return list(steps.values())

    def placed(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages that can be made, each per-image stage over what the others read of it."""
        left = [stage for stage in stages if not (stage.scores and stage.recipe.truth) or self.has_masks(stage.list_name)]
        return over_what_is_read(left, self.holds)

    def items(self, list_name: str, with_masks: bool) -> ItemList:
        """The items of a list; WrongInput if it has none, because a stage over no images makes no result."""
        wanted = (list_name, with_masks)
        if wanted not in self._items:
            bare = self.images.items(list_name) if not with_masks else self.items(list_name, with_masks=False)
            if not bare:
                raise WrongInput(f"the list {list_name} has no images")
            self._items[wanted] = self.images.masked(list_name, bare) if with_masks else bare
        return self._items[wanted]

    def has_masks(self, list_name: str) -> bool:
        """Whether any image of a list has a mask; each list is looked up once."""
        if list_name not in self._masked:
            self._masked[list_name] = self.images.has_masks(list_name)
        return self._masked[list_name]

    def holds(self, list_name: str, other: str) -> bool:
        """Whether a list holds all images of another list; each pair is looked up once."""
        pair = (list_name, other)
        if pair not in self._held:
            self._held[pair] = list_name == other or set(self.images.ids(other)).issubset(self.images.ids(list_name))
        return self._held[pair]

    def _step(self, stage: Stage, inputs: dict[str, PlannedStage], random_seed: int, run: str) -> PlannedStage:
        items = self.items(stage.list_name, stage.recipe.truth)
        identity = {
            "format": FORMAT,
            "code": self.fingerprints.of_code(*self._code(stage, items)),
            "settings": self._keyed(stage),
            "random_seed": random_seed,
            "purpose": stage.purpose,
            "classes": self.images.classes,
            **self.content(stage.list_name, stage.recipe.truth),
            "inputs": {word: source.family for word, source in inputs.items()},
        }
        key = digest_of(identity)
        # stages with the same key share it, whatever their names
        folder = self._folders.setdefault(key, self.store.folder(stage.name, key))
        step = PlannedStage(stage, key, identity, folder, items, inputs, run=run)
        self.look(step)
        results = self.store.results(stage.name)
        step.estimate = self._estimate(step, results)
        if not step.cached:
            step.reason = reason(step, max(results, key=lambda made: made["finished"], default=None))
        return step

    def _code(self, stage: Stage, items: ItemList) -> list[str]:
        """The functions whose code a stage's result depends on, except those in its inputs' keys, and the class of its items."""
        recipe, sources = stage.recipe, [source.recipe for source in stage.inputs.values()]
        reads_images = f"{type(items[0]).__module__}:{type(items[0]).__name__}"
        engine = LOOP if recipe.kind == "train" else QUICK if any(source.network for source in sources) else ""
        found = [recipe.call, recipe.network, recipe.result, engine, reads_images, *(source.read for source in sources)]
        return [*filter(None, found), *(add_on.call for add_on in stage.add_ons.values())]

    def content(self, list_name: str, with_masks: bool) -> dict[str, str]:
        """The fingerprints of a list's images and, for a stage that sees them, masks; each list is looked up once."""
        wanted = (list_name, with_masks)
        if wanted not in self._contents:
            items = self.items(*wanted)
            masks = self.fingerprints.of_masks(items) if with_masks else ""
            self._contents[wanted] = {"images": self.fingerprints.of_images(items), "masks": masks}
        return self._contents[wanted]

    def look(self, step: PlannedStage) -> None:
        """Add a finished result to the plan if it was made from the present results of its inputs.

        If it is missing, and a result over other lists has records of its images: add those.
        """
        step.folder, step.siblings = self._folders[step.key], ()
        manifest = read_manifest(step.folder)
        step.manifest = manifest if manifest and manifest["made_from"] == step.made_from else None
        if not step.cached and step.stage.recipe.per_image:
            self._look_over_other_lists(step)

    def _look_over_other_lists(self, step: PlannedStage) -> None:
        others = [
            (manifest, self.items(manifest["list"], with_masks=False).names())
            for manifest in self._family(step)
            if self._is_current(manifest, step)
        ]
        step.siblings = shared_out(step.items.names(), others) if others else ()
        if step.siblings and step.siblings[0].count == len(step.items):
            step.manifest, step.siblings = step.siblings[0].manifest, ()
            step.folder = self.store.folder(step.stage.name, step.result)

    def discarded(self, step: PlannedStage) -> list[Path]:
        """Take a step's result out of the plan; returns the folders of its result and of those over other lists."""
        step.folder, step.manifest, step.siblings = self._folders[step.key], None, ()
        step.estimate = self._estimate(step, self.store.results(step.stage.name))
        return [step.folder, *(self.store.folder(step.stage.name, manifest["key"]) for manifest in self._family(step))]

    def _estimate(self, step: PlannedStage, results: Sequence[Mapping[str, Any]]) -> Estimate | None:
        images = len(step.items)
        return estimate(step.stage.recipe.kind, step.identity, images, images - step.taken_over, results)

    def _family(self, step: PlannedStage) -> list[dict[str, Any]]:
        """The manifests of finished results of a per-image stage over other lists."""
        found = self.store.results(step.stage.name) if step.stage.recipe.per_image else ()
        return [manifest for manifest in found if manifest["family"] == step.family and manifest["key"] != step.key]

    def _is_current(self, manifest: Mapping[str, Any], step: PlannedStage) -> bool:
        """Whether a result over another list is made from the present inputs and images."""
        if manifest["made_from"] != step.made_from:
            return False
        try:
            return self.content(manifest["list"], with_masks=False)["images"] == manifest["identity"]["images"]
        except WrongInput:  # the list is gone, or an image of it
            return False

    def _keyed(self, stage: Stage) -> dict[str, Any]:
        """The settings in the form of the key: a file or a folder counts by its content, a function by its code."""
        keyed = {}
        for name, value in stage.settings.items():
            if stage.owned[name] in self.keyless:
                continue
            keyed[name] = value
            if isinstance(value, Reference):
                keyed[name] = f"code {self.fingerprints.of_code(value)}"
            elif stage.owned[name] in self.files and value not in NO_FILE:
                keyed[name] = f"content {self.fingerprints.of_file(Path(value))}"
            elif stage.owned[name] in self.folders and value not in (*NO_FILE, *self.declared[stage.owned[name]].choices):
                ids = self.items(stage.list_name, with_masks=False).names()
                keyed[name] = f"content {self.fingerprints.of_folder(Path(value), ids)}"
        return keyed
