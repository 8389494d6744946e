"""The keys of the stages that a running launch needs, for `clean`. They count while the run's folder is leased."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from orchestrator.planning.launch import Prepared
from orchestrator.storage.host import SILENCE
from orchestrator.storage.lease import held, try_lease
from orchestrator.storage.store import read_json, write_json

PLANNED, RESULTS = "stages.json", "results.json"


@contextmanager
def announced(runs: Iterable[Prepared]) -> Iterator[None]:
    """Announce the stages of `runs` during the block. Stages that other running launches of these runs announced are kept."""
    with ExitStack() as stack:
        for run in runs:
            folder = run.request.store / "runs" / run.run
            others = read_json(folder / PLANNED) or () if held(folder) else ()
            write_json(folder / PLANNED, list(dict.fromkeys([*others, *(key for step in run.steps for key in step.needs)])))
            stack.callback(_touch, folder / PLANNED)
            stack.enter_context(try_lease(folder))
        yield


def _touch(path: Path) -> None:
    with suppress(OSError):  # an absent store must not hide the error of the launch
        os.utime(path)


def keys_of_running(store: Path) -> set[str]:
    """The announced keys of launches that run or ended less than a minute ago: results are written after the end."""
    return {
        key
        for run, keys in _planned(store)
        if held(run) or time.time() - (run / PLANNED).stat().st_mtime < SILENCE
        for key in keys
    }


def keys_of_stopped(store: Path) -> dict[str, str]:
    """The announced keys of launches that ended without results, each with the name of the run that would continue."""
    return {key: run.name for run, keys in _planned(store) if not (run / RESULTS).exists() for key in keys}


def _planned(store: Path) -> Iterator[tuple[Path, Iterable[str]]]:
    for path in sorted((store / "runs").glob(f"*/{PLANNED}")):
        yield path.parent, read_json(path) or ()
