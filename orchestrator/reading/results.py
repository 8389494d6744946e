"""The results of a finished plan: its scores, each with its protocol."""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning import choosing, scores
from orchestrator.planning.planned_stage import PlannedStage, ancestors
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipe import AUTO, StageRecipe
from orchestrator.planning.recipes import load_all
from orchestrator.reading.protocol import THRESHOLD_BY, imports, owner, protocol
from orchestrator.storage.place import RESULTS, place_of
from orchestrator.storage.store import read_json, seconds, write_json

FORMAT = 3  # version of results.json
FAILED = "failed.json"  # written instead if a run failed (see `orchestrator.reading.summary`)


def results(prepared: Prepared) -> dict[str, Any]:
    """One row per scored stage, quantity and list, all settings, and a line per stage."""
    request = prepared.request
    return {
        "format": FORMAT,
        "run": prepared.run,
        "method": request.method,
        "images": prepared.images.name,
        "images_recipe": prepared.experiment.images_recipe.name,  # the kind of image set
        "segmenter": prepared.experiment.segmenter,
        "random_seed": request.random_seed,
        "command": _command(prepared),
        "classes": list(prepared.images.classes),
        "settings": dict(prepared.settings),
        "used": [*prepared.experiment.used, *(name for name in prepared.settings if name.startswith("images."))],
        "rows": _rows(prepared),
        "unscored": list(_unscored(prepared)),
        "stages": [_stage(step) for step in prepared.steps],
        "finished": time.time(),
    }


def used_settings(results: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a stage of a run received, and those of its images, from the table of all settings."""
    return {name: results["settings"][name] for name in results["used"]}


def subjects(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each row is a score of: the component, or the stage if several stages of the component are scored as one quantity."""
    stages: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        stages.setdefault((row["quantity"], row["component"]), set()).add(row["stage"])
    return [row["stage"] if len(stages[row["quantity"], row["component"]]) > 1 else row["component"] for row in rows]


def without_classes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence on each score whose label maps are right for one class at most, as behind a network whose output is constant."""
    for row, subject in zip(rows, subjects(rows), strict=True):
        about, main = scores.quantities()[row["quantity"]], scores.main_metric(row["quantity"])
        right = [name for name, own in row.get("per_class", {}).items() if own.get(main.per_class)]
        told = main.per_class and main.better == "higher"  # other scores of classes do not say whether a pixel is right
        if told and "per_class" in row and len(right) < 2 and (about.label_maps or about.threshold):
            threshold = ", or a threshold may not fit" if about.threshold else ""
            yield (
                f"the {about.many} of {subject} on {row['split']} have no right pixel of any class{' but ' if right else ''}"
                f"{''.join(right)}; a training may have diverged or be too short{threshold}"
            )


def entry(row: Mapping[str, Any], path: str) -> Any:
    """The value at a path such as `errors.fn` in a row of results, None if there is none."""
    found: Any = row
    for name in path.split("."):
        found = (found or {}).get(name)
    return found


def write_results(prepared: Prepared) -> tuple[dict[str, Any], Path]:
    """Gather and write `<store>/runs/<run>/results.json`; returns the results and the run's folder."""
    found, folder = results(prepared), prepared.folder
    write_json(folder / RESULTS, found)
    place_of(folder).remove(folder / FAILED)  # the note of an earlier failure
    return found, folder


def completed(part: Prepared) -> Prepared:
    """A plan that was carried out up to one stage (`until`), with the later stages that the run's results list."""
    known = read_json(part.folder / RESULTS) or {}
    listed = {entry["stage"]: entry["key"] for entry in known.get("stages", ())}
    made = {step.stage.name: step for step in part.steps}
    if set(listed.values()) <= {step.result for step in part.steps}:
        return part
    try:
        stages = part.planner.placed(part.experiment.stages)
        whole = part.planner.plan([stage for stage in stages if stage.name in {*listed, *made}], part.request.random_seed)
    except WrongInput:  # a later list has lost its masks, so the later scores no longer hold
        return part
    kept = (_kept(step, made.get(step.stage.name), listed.values()) for step in whole)
    return replace(part, steps=[step for step in kept if step])


def _kept(step: PlannedStage, made: PlannedStage | None, listed: Collection[str]) -> PlannedStage | None:
    """What stands for a stage in the results, of the `step` of the whole plan and the one that was `made`, if it was.

    That is the step if its result is there, else the one that was made, which may be over fewer images. A result of an earlier
    launch counts if the run's results have `listed` it.
    """
    there = step.cached and all(source.cached for source in step.inputs.values())
    if there and made and made.result == step.result:
        return replace(step, reason=made.reason)  # why it was made now
    if there and (made or step.result in listed):
        return step
    return None if there else made


def _command(prepared: Prepared) -> dict[str, str]:
    """The other options of a launch of this run (settings are kept separately). Paths are absolute."""
    request = prepared.request
    kind, colon, path = request.images.partition(":")
    return {
        "images": f"{kind}:{os.path.abspath(Path(path).expanduser())}" if colon else kind,
        "segmenter": request.segmenter,
        "recipe": request.recipe,
        "exclude": str(request.exclude.absolute()) if request.exclude else "",
    }


def _rows(prepared: Prepared) -> list[dict[str, Any]]:
    """One row for each stage, quantity and list; several score recipes share a row."""
    made = [step for step in prepared.steps if step.stage.scores and step.manifest]
    places: dict[tuple[str, str, str], list[PlannedStage]] = {}
    for step in made:
        places.setdefault((step.stage.scores, _scored(step).key, step.stage.list_name), []).append(step)
    rows = [_row(prepared, steps) for steps in places.values()]
    _mark_choosing(rows, prepared.settings["images.selection"])
    return _with_oracles(rows)


def _unscored(prepared: Prepared) -> Iterator[dict[str, Any]]:
    """A row without a score for what was made for each list without masks, so that pages can show it.

    Maps whose threshold the run should choose have none if it ended before that.
    """
    for step in prepared.steps:
        if step.manifest and scores.drawable(step.stage.recipe.scored) and (threshold := _threshold(prepared, step)) is not None:
            yield from (
                {
                    **{"quantity": step.stage.recipe.scored, "component": step.stage.component, "split": split},
                    **{"stage": step.stage.name, "key": step.result, "masks": step.identity["images"], "evaluations": []},
                    "protocol": threshold,
                }
                for split in step.stage.lists
                if split in prepared.unscored
            )


def _threshold(prepared: Prepared, step: PlannedStage) -> dict[str, Any] | None:
    """The threshold of a stage's maps as a protocol has it, empty if they need none; None if it is not chosen yet."""
    name = scores.quantities()[step.stage.recipe.scored].threshold
    value = prepared.settings.get(f"{step.stage.in_place_of or step.stage.component}.{name}")
    if value != AUTO:
        return {} if value is None else {"threshold": value}
    chosen = choosing.number_for(step, prepared.steps)
    return None if chosen is None else {"threshold": chosen, THRESHOLD_BY: AUTO}


def _mark_choosing(rows: list[dict[str, Any]], selection: str) -> None:
    """Mark the list on which thresholds and settings are chosen: `selection`, else the first list that this run has scored."""
    for row in rows:
        scored = [other["split"] for other in rows if (other["quantity"], other["stage"]) == (row["quantity"], row["stage"])]
        row["chooses"] = row["split"] == (selection if selection in scored else scored[0])


def _with_oracles(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the best threshold of the list that thresholds are chosen on; each row is scored at that threshold."""
    chosen = {(row["quantity"], row["stage"]): row for row in rows if row["chooses"] and "oracle" in row}
    for row in rows:
        if best := chosen.get((row["quantity"], row["stage"])):
            name, threshold = scores.main(row["quantity"]), best["oracle"]["threshold"]
            value = row["curve"][name][row["curve"]["threshold"].index(threshold)]
            row["oracle"] = {"threshold": threshold, name: value, "chosen_on": best["split"]}
    return rows


def _row(prepared: Prepared, steps: Sequence[PlannedStage]) -> dict[str, Any]:
    """One row: the merged results of evaluations of one stage on one list."""
    first, source = steps[0], _scored(steps[0])
    result: dict[str, Any] = {}
    for step in steps:
        assert step.manifest is not None
        result = merged(result, step.manifest["result"])
    return {
        "quantity": first.stage.scores,
        "component": first.stage.component,
        "split": first.stage.list_name,
        "components": sorted(set().union(*(step.stage.components for step in ancestors(first).values()))),
        "stage": source.stage.name,  # the scored one
        "key": source.result,
        # fingerprint of the masks that it was scored on; of the images, if the score needs no masks
        "masks": next(filter(None, (step.identity["masks"] for step in steps)), first.identity["images"]),
        "evaluations": [{"recipe": owner(step.stage).name, "stage": step.stage.name, "key": step.key} for step in steps],
        "cost": _cost(prepared, source),
        **result,
        "protocol": {**result["protocol"], **protocol(prepared, steps)},
    }


def _scored(step: PlannedStage) -> PlannedStage:
    """The stage that an evaluation scores."""
    return next(iter(step.inputs.values()))


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two results merged; tables in both are merged entry by entry."""
    both = {name: merged(one[name], other[name]) for name in one.keys() & other.keys() if isinstance(one[name], dict)}
    return {name: both.get(name, value) for name, value in {**one, **other}.items()}


def _cost(prepared: Prepared, source: PlannedStage) -> dict[str, float | None]:
    """Wall seconds of `source` and all stages behind it, and the multiple of the unit of cost.

    Recipes name the stages of the unit: for all images of the training list. If the run has none of them, the newest in the
    store count. The time of an imported result is unknown; there is no multiple then. Both are None if one of the stages was
    resumed.
    """
    behind = list(ancestors(source).values())
    wall = total(_wall(stage.manifest, stage.stage.recipe, len(stage.items)) for stage in behind if stage.manifest)
    if wall is None or imports(behind):
        return {"wall": wall, "units": None}
    images = len(prepared.planner.items(prepared.settings["images.training"], with_masks=False))
    here = {other.stage.name: other.manifest for other in prepared.steps}
    newest = prepared.planner.store.newest
    unit = total(_wall(here.get(name) or newest(name), recipe, images) for name, recipe in cost_unit().items())
    return {"wall": wall, "units": wall / unit if unit else None}


def total(figures: Iterable[float | None]) -> float | None:
    """The sum of figures; None if one of them is unknown."""
    found = list(figures)
    known = [figure for figure in found if figure is not None]
    return sum(known) if len(known) == len(found) else None


def cost_unit() -> dict[str, StageRecipe]:
    """The stages whose time is one unit of cost, by name."""
    return {f"{recipe.name}-{stage.name}": stage for recipe in load_all().values() for stage in recipe.stages if stage.cost_unit}


def _wall(manifest: Mapping[str, Any] | None, recipe: StageRecipe, images: int) -> float | None:
    """The seconds of a result for this number of images; those of a training are known only for its own number."""
    if manifest is None or (recipe.kind == "train" and manifest["items"] != images):
        return None
    wall = seconds(manifest, "wall")
    return None if wall is None else wall * (images / manifest["items"] if recipe.per_image else 1)


def _stage(step: PlannedStage) -> dict[str, Any]:
    manifest = step.manifest or {}
    about = {"stage": step.stage.name, "kind": step.stage.recipe.kind, "key": step.result, "list": manifest.get("list")}
    spent = {clock: seconds(manifest, clock) for clock in ("wall", "cpu")}
    return {**about, **spent, **{name: manifest.get(name) for name in ("memory", "gpu_memory", "items", "finished", "device")}}
