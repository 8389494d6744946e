"""What a finished plan has found: its scores, each with the protocol that it was made under."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.planning.imports import IMPORTED
from orchestrator.planning.launch import Prepared
from orchestrator.planning.plan import PlannedStage
from orchestrator.planning.recipes import find
from orchestrator.planning.settings import PRESETS
from orchestrator.storage.attached import remove
from orchestrator.storage.store import write_json

FORMAT = 3  # of results.json
FAILED = "failed.json"  # in place of it, where a run failed (see `orchestrator.reading.summary`)
UNIT = ("cam-network", "cam-maps")  # the stages whose time is one unit of cost (ReCAM Table 2)
PROTOCOL = ("backbone.name", "backbone.weights", "training.workers", "training.threads", "training.precision")

OWN = {  # settings of the scored component itself, as far as it has them
    "seed": ("weights", "scales"),
    "pseudo": (),
    "seg": ("backbone", "weights", "test_scales", "mirror", "crf"),
}


def results(prepared: Prepared) -> dict[str, Any]:
    """One row per evaluation that is there, all settings, and a line per stage."""
    request = prepared.request
    return {
        "format": FORMAT,
        "run": prepared.run,
        "method": request.method,
        "images": request.images.partition(":")[0],
        "segmenter": request.segmenter or find(request.images.partition(":")[0], ("images",))[0].segmenter,
        "random_seed": request.random_seed,
        "command": _command(prepared),
        "classes": list(prepared.images.classes),
        "settings": dict(prepared.settings),
        "used": [*prepared.experiment.used, *(name for name in prepared.settings if name.startswith("images."))],
        "rows": [_row(prepared, step) for step in prepared.steps if step.stage.scores and step.manifest],
        "stages": [_stage(prepared, step) for step in prepared.steps],
        "finished": time.time(),
    }


def used_settings(results: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a stage of a run received, and those of its images, out of the table of all that exist."""
    return {name: results["settings"][name] for name in results["used"]}


def write_results(prepared: Prepared) -> tuple[dict[str, Any], Path]:
    """Gather and write `<store>/runs/<run>/results.json`; the results and the run's folder."""
    found = results(prepared)
    folder = prepared.request.store / "runs" / prepared.run
    write_json(folder / "results.json", found)
    remove(folder / FAILED)  # of an earlier try
    return found, folder


def _command(prepared: Prepared) -> dict[str, str]:
    """The rest of what a launch of the same run is given; all settings are told apart. Paths are absolute."""
    request = prepared.request
    kind, given, _ = request.images.partition(":")
    return {
        "images": f"{kind}:{prepared.images.root}" if given else kind,
        "segmenter": request.segmenter,
        "recipe": request.recipe,
        "exclude": str(request.exclude.absolute()) if request.exclude else "",
    }


def _row(prepared: Prepared, step: PlannedStage) -> dict[str, Any]:
    assert step.manifest is not None
    result, component = step.manifest["result"], step.stage.component
    (source,) = step.inputs.values()
    split = step.stage.list_name
    about = {"split": split, "images": len(step.items), "labels from": prepared.images.label_source}
    own = [f"{component}.{name}" for name in OWN[step.stage.scores]]
    behind = list(_ancestors(step).values())
    received = {name for source in behind for name in source.stage.settings}  # what none of them received tells nothing of it
    names = [*(name for name in PROTOCOL if name in received), *(name for name in own if name in prepared.settings)]
    settings = {name: shown(prepared.settings[name]) for name in names}
    protocol = {**result["protocol"], **settings, **_imports(behind), **about}
    return {
        **{"quantity": step.stage.scores, "component": component, "split": split},
        "components": sorted(set().union(*(source.stage.components for source in behind))),
        "chooses": split == (prepared.settings["images.selection"] or prepared.settings[f"images.{step.stage.recipe.list}"][0]),
        **{"stage": source.stage.name, "base": source.stage.base, "key": source.key},  # scored
        "cost": _cost(prepared, source),
        **result,
        "protocol": protocol,
    }


def _cost(prepared: Prepared, source: PlannedStage) -> dict[str, float | None]:
    """Wall seconds of `source` and all stages that it comes from, and as a multiple of training CAM and extracting its maps.

    Where those maps are no stage of the run, the newest of the store count if they are of as many images. What is imported
    took others an unknown time: there is no multiple then.
    """
    behind = list(_ancestors(source).values())
    wall = sum(stage.manifest["wall"] for stage in behind if stage.manifest)
    if _imports(behind):
        return {"wall": wall, "units": None}
    images = len(prepared.planner.items(prepared.settings["images.training"], with_masks=False))
    here = {other.stage.name: other.manifest for other in prepared.steps}
    unit = [here.get(name) or prepared.planner.store.newest(name) for name in UNIT]
    known = [manifest["wall"] for manifest in unit if manifest and manifest["items"] == images]
    return {"wall": wall, "units": wall / sum(known) if len(known) == len(UNIT) else None}


def _ancestors(step: PlannedStage) -> dict[str, PlannedStage]:
    """A step and all that it comes from, by key."""
    found = {step.key: step}
    for source in step.inputs.values():
        found |= _ancestors(source)
    return found


def shown(value: Any) -> Any:
    """A setting as a protocol tells it: of a file of weights, its name and what identifies it anywhere."""
    if not isinstance(value, str) or value in PRESETS or not Path(value).is_file():
        return value
    from backbones import weights_digest  # loads torch

    return f"{Path(value).name} (sha256 {weights_digest(value)})"


def _stage(prepared: Prepared, step: PlannedStage) -> dict[str, Any]:
    manifest = step.manifest or {}
    figures = {name: manifest.get(name) for name in ("wall", "cpu", "memory", "gpu_memory", "items", "finished", "device")}
    return {"stage": step.stage.name, "key": step.key, "list": step.stage.list_name, **figures}


def _imports(steps: Sequence[PlannedStage]) -> dict[str, str]:
    """What a protocol says of the imported ones among the steps that a result comes from."""
    return {
        f"imported {step.stage.recipe.name}": f"{_content(step)} in place of {step.stage.in_place_of}'s"
        for step in steps
        if step.stage.component == IMPORTED and not step.stage.scores
    }


def _content(step: PlannedStage) -> str:
    """What identifies an imported result anywhere: "content" and the beginning of its hash."""
    return step.identity["settings"][f"{IMPORTED}.{step.stage.recipe.name}"][: len("content ") + 12]
