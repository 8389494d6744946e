"""What MLflow gets of a run, under names that it takes: settings, scores, times, losses, figures. Imports no MLflow."""

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.reading.results import subjects, used_settings
from orchestrator.reading.summary import is_repeat
from orchestrator.storage.place import HISTORY
from orchestrator.storage.store import Store, read_json, read_manifest, seconds

PARAM_LENGTH = 6000  # MLflow cuts longer values; such a setting is only in results.json
TAG_LENGTH = 8000
IMAGES = "images."  # begins the settings of the images
Manifests = Mapping[str, Mapping[str, Any]]


def stage_folders(store: Store, results: Mapping[str, Any]) -> dict[str, Path]:
    """The folders of a run's stages, by name."""
    return {stage["stage"]: store.folder(stage["stage"], stage["key"]) for stage in results["stages"]}


def stage_manifests(folders: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """The manifests of the stages that still exist; a stage may have been discarded since the run."""
    return {name: manifest for name, folder in folders.items() if (manifest := read_manifest(folder))}


def params(results: Mapping[str, Any]) -> dict[str, str]:
    """The settings that the run's components read. MLflow lets no param change; these are in the run's name, so none does."""
    used = used_settings(results)
    kept = {name: str(value) for name, value in used.items() if not name.startswith(IMAGES)}
    return {name: value for name, value in kept.items() if len(value) <= PARAM_LENGTH}


def image_settings(results: Mapping[str, Any]) -> dict[str, str]:
    """Tags: the settings of the images, such as the folder of the masks, which may change for a run."""
    used = used_settings(results)
    return {name: str(value)[:TAG_LENGTH] for name, value in used.items() if name.startswith(IMAGES)}


def tags(results: Mapping[str, Any]) -> dict[str, str]:
    """Method, random seed, settings of the images, the key of every stage and the protocol of every score."""
    rows = results["rows"]
    found = {
        "wsss.method": results["method"],
        "wsss.random_seed": str(results["random_seed"]),
        **image_settings(results),
        **{allowed(f"stage.{stage['stage']}"): stage["key"] for stage in results["stages"]},
        **{allowed(f"protocol.{name}"): json.dumps(row["protocol"]) for name, row in _by_list(rows)},
    }
    return {name: value[:TAG_LENGTH] for name, value in found.items()}


def scores(rows: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]] | None = None) -> dict[str, float]:
    """Metrics by name: `seed.miou/train`, and `seed.cam.miou/train` if a later component has the last seed.

    With the rows of another run `beside` them, only metrics that repeat one of its.
    """
    found = {}
    for name, row in zip(row_names(rows), rows, strict=True):
        if beside is not None and not any(is_repeat(row, about) for about in beside):
            continue
        oracle = {f"oracle_{key}": value for key, value in row.get("oracle", {}).items() if key != "chosen_on"}
        threshold = {key: row["protocol"][key] for key in ("threshold",) if key in row["protocol"]}
        for key, value in {**row["metrics"], **threshold, **oracle}.items():
            if value is not None:
                found[allowed(f"{name}.{key}/{row['split']}")] = float(value)
    return found


def row_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The quantity for its last row on each list, such as `seed`; `seed.cam` and so on for the others (see `subjects`)."""
    last = {(row["quantity"], row["split"]): index for index, row in enumerate(rows)}
    return [
        row["quantity"] if last[row["quantity"], row["split"]] == index else f"{row['quantity']}.{subject}"
        for index, (row, subject) in enumerate(zip(rows, subjects(rows), strict=True))
    ]


def _by_list(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows with their names; a row on another list than the first of its name has the list in its name, as in seed-val."""
    seen = set()
    for name, row in zip(row_names(rows), rows, strict=True):
        yield (f"{name}-{row['split']}" if name in seen else name), row
        seen.add(name)


def summary(launch: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean and sample standard deviation over the results of a launch's runs: `seg.miou.mean/val`.

    Only for scores that all runs have, on the same masks under the same protocol. Empty for fewer than two runs, which have no
    deviation.
    """
    if len(launch) < 2:
        return {}
    found = [scores(results["rows"], launch[0]["rows"]) for results in launch]
    summed = {"runs": float(len(launch))}
    for name in sorted(set.intersection(*map(set, found))):
        quantity, _, split = name.partition("/")
        values = [run[name] for run in found]
        summed[f"{quantity}.mean/{split}"] = statistics.fmean(values)
        summed[f"{quantity}.std/{split}"] = statistics.stdev(values)
    return summed


def system(manifests: Manifests) -> dict[str, float]:
    """Wall and CPU seconds of each stage, if they are known, its busy cores on average, and its peak memory in bytes."""
    spent = {
        allowed(f"{clock}_seconds.{name}"): time
        for name, manifest in manifests.items()
        for clock in ("wall", "cpu")
        if (time := seconds(manifest, clock)) is not None
    }
    busy = {name: manifest["cpu"] / manifest["wall"] for name, manifest in manifests.items() if manifest["wall"] > 0}
    held = {
        allowed(f"{key}_bytes.{name}"): manifest[key]
        for name, manifest in manifests.items()
        for key in ("memory", "gpu_memory")
        if manifest.get(key)  # unknown for stages that were made before it was measured
    }
    return spent | {allowed(f"busy_cores.{name}"): cores for name, cores in busy.items()} | held


def loss_points(folders: Mapping[str, Path], manifests: Manifests) -> Iterator[tuple[str, float, int, int]]:
    """Name, mean, milliseconds and epoch of every loss; at the time the stage finished, so MLflow recognises them."""
    for stage, history in _histories(folders).items():
        if stage in manifests:
            for epoch in history:
                for name, value in epoch.items():
                    if name != "epoch":
                        moment = int(manifests[stage]["finished"] * 1000)
                        yield allowed(f"loss.{stage}.{name}"), value, moment, int(epoch["epoch"])


def pictures(results: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, str]:
    """SVG figures by file name: every seed's scores over its threshold, every training's losses."""
    from orchestrator.pages import figures  # loads matplotlib

    rows = results["rows"]
    curves = {name: row for name, row in _by_list(rows) if "curve" in row}
    drawn = {f"threshold-{name}": figures.threshold_curve(row, name) for name, row in curves.items()}
    drawn |= {f"losses-{stage}": figures.losses(history, stage) for stage, history in _histories(folders).items()}
    # such a file has no page with a text colour; this grey is legible on light and on dark
    return {f"{allowed(name)}.svg": svg.replace("<svg", '<svg color="#808080"', 1) for name, svg in drawn.items()}


def _histories(folders: Mapping[str, Path]) -> dict[str, Any]:
    """The losses per epoch of the stages that train."""
    return {stage: history for stage, folder in folders.items() if (history := read_json(folder / HISTORY))}


def allowed(name: str) -> str:
    """`name` with only the characters that MLflow takes; lists and classes may have any name."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
