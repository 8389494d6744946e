"""Processes that a private Ray leaves behind when its driver is killed outright: recorded, and ended by the next launch.

Ray's own supervision ends its servers and workers with the driver, but not every agent. A process is told by its number and
its start time together: numbers are used again.
"""

from pathlib import Path

import psutil

from orchestrator.storage.host import host
from orchestrator.storage.store import read_json, write_json


def record(store: Path) -> Path:
    """Note all processes that this one has started so far; the note's path, to be removed on an orderly end."""
    family = psutil.Process().children(recursive=True)
    note = store / "ray" / f"processes-{host()}-{psutil.Process().pid}.json"
    write_json(note, {"driver": _identity(psutil.Process()), "processes": [_identity(member) for member in family]})
    return note


def reap(store: Path) -> None:
    """End what the dead drivers of this host have left behind."""
    for note in (store / "ray").glob(f"processes-{host()}-*.json"):
        found = read_json(note)
        if found is None or _living(found["driver"]):
            continue
        left = [process for process in map(_living, found["processes"]) if process]
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=10)
        note.unlink(missing_ok=True)


def may_live(store: Path) -> bool:
    """Whether a launch that noted its processes is running: on this host, or perhaps on another, which cannot be asked."""
    here = f"processes-{host()}-"
    notes = [(note, read_json(note)) for note in (store / "ray").glob("processes-*.json")]
    return any(not note.name.startswith(here) or (found and _living(found["driver"])) for note, found in notes)


def _identity(process: psutil.Process) -> list[float]:
    return [process.pid, process.create_time()]


def _living(identity: list[float]) -> psutil.Process | None:
    try:
        process = psutil.Process(int(identity[0]))
        alive = process.create_time() == identity[1] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if alive else None
