"""The processes that a private Ray leaves when its driver is killed. A launch records its own, and ends those of dead drivers.

Ray itself ends its servers and workers with the driver, but not every agent. A process is identified by its number and its
start time, because numbers are reused.
"""

from pathlib import Path

import psutil

from orchestrator.engine.interrupt import kill
from orchestrator.storage.host import host
from orchestrator.storage.store import read_json, write_json


def record(store: Path) -> Path:
    """Write a note of all processes that this one has started; returns its path, which an orderly end removes."""
    family = psutil.Process().children(recursive=True)
    note = store / "ray" / f"processes-{host()}-{psutil.Process().pid}.json"
    write_json(note, {"driver": _identity(psutil.Process()), "processes": [_identity(member) for member in family]})
    return note


def reap(store: Path) -> None:
    """End the processes that dead drivers of this host have left. Those of another user live on, and their note stays."""
    for note in (store / "ray").glob(f"processes-{host()}-*.json"):
        found = read_json(note)
        if found is None or _living(found["driver"]):
            continue
        left = [process for process in map(_living, found["processes"]) if process]
        killed = kill(left)
        psutil.wait_procs(killed, timeout=10)
        if not any(process.is_running() for process in left if process not in killed):
            note.unlink(missing_ok=True)


def may_live(store: Path) -> bool:
    """Whether a launch that noted its processes may be running. A note of another host counts, because it cannot be checked."""
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
