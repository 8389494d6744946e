"""What runs in a store, and how far it is: read from the plans, leases and notes of its launches."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.engine.announced import PLAN
from orchestrator.engine.progress import left
from orchestrator.reading.summary import failure_in, group_name
from orchestrator.storage.host import host_name
from orchestrator.storage.lease import LEASE, held, read_lease
from orchestrator.storage.place import PROGRESS, RECORD, RESULTS
from orchestrator.storage.shards import SHARD
from orchestrator.storage.store import Store, read_json, read_manifest

RUNNING, STOPPED, FAILED = "running", "stopped", "failed"


@dataclass(frozen=True)
class Doing:
    """A stage that is being made: `done` of `total` units, and the seconds left if anything tells."""

    stage: str
    done: int
    total: int
    unit: str
    left: float | None


@dataclass(frozen=True)
class Launched:
    """A run without results yet. `where` is the process that makes it, `left` the seconds of all stages one after the other."""

    run: str
    state: str
    where: str
    began: float
    made: int
    stages: int
    doing: list[Doing]
    left: float | None
    failure: str


def unfinished(store: Path) -> Iterator[Launched]:
    """The runs of a store that are being made, on whatever machine, and those that ended without results; the newest last.

    A trial that its sweep has stopped early counts as ended.
    """
    early = _stopped_early(store)
    plans = [(path.parent, plan) for path in (store / "runs").glob(f"*/{PLAN}") if (plan := read_json(path))]
    for folder, plan in sorted(plans, key=lambda found: found[1]["began"]):
        ended = (folder / RESULTS).exists() or group_name(folder.name) in early
        if held(folder) or not ended:
            yield _launched(Store(store), folder, plan)


def _stopped_early(store: Path) -> set[str]:
    """The groups of the trials that sweeps have stopped early."""
    records = [read_json(path) or {} for path in (store / "sweeps").glob(f"*/{RECORD}")]
    return {trial["group"] for record in records for trial in record.get("trials", ()) if trial["stopped"]}


def _launched(store: Store, folder: Path, plan: Mapping[str, Any]) -> Launched:
    runs, failure = held(folder), failure_in(folder)
    missing = [stage for stage in plan["stages"] if not stage["cached"] and not read_manifest(_folder(store, stage))]
    doing = [_doing(_folder(store, stage), stage) for stage in missing if runs and held(_folder(store, stage))]
    of_doing = {one.stage: one.left for one in doing}
    seconds = [of_doing.get(stage["stage"], stage["expected"]) for stage in missing]
    holder = (read_lease(folder / LEASE) if runs else None) or {}
    return Launched(
        run=folder.name,
        state=RUNNING if runs else FAILED if failure else STOPPED,
        where=f"process {holder['pid']} of {host_name(holder['host'])}" if holder else "",
        began=plan["began"],
        made=len(plan["stages"]) - len(missing),
        stages=len(plan["stages"]),
        doing=doing,
        left=None if None in seconds else sum(filter(None, seconds)),
        failure=failure or "",
    )


def _doing(folder: Path, stage: Mapping[str, Any]) -> Doing:
    if stage["kind"] == "train":
        return _training(stage, read_json(folder / PROGRESS) or {})
    size = SHARD if stage["unit"] == "images" else 1  # as `Job.shards` cuts them
    done = min(size * len(list((folder / "shards").glob("[0-9]*.npz"))), stage["total"])
    return Doing(stage["stage"], done, stage["total"], stage["unit"], _left(stage, done / max(stage["total"], 1)))


def _training(stage: Mapping[str, Any], note: Mapping[str, Any]) -> Doing:
    """A training from its note; one without a note has not made its first step."""
    if "since" not in note:
        return Doing(stage["stage"], note.get("step", 0), note.get("steps", 0), "steps", _left(stage, 0.0))
    began, first = note["since"]
    per_step = (note["at"] - began) / (note["step"] - first) if note["step"] > first else None
    own = None if per_step is None else per_step * (note["steps"] - note["step"])
    seconds = _left(stage, note["step"] / note["steps"], note["at"] - began, own)
    passed = time.time() - note["at"]  # the note is that old
    return Doing(stage["stage"], note["step"], note["steps"], "steps", None if seconds is None else max(seconds - passed, 0.0))


def _left(stage: Mapping[str, Any], share: float, elapsed: float = 0.0, own: float | None = None) -> float | None:
    return left(elapsed, share, own, stage["expected"])


def _folder(store: Store, stage: Mapping[str, Any]) -> Path:
    return store.folder(stage["stage"], stage["key"])
