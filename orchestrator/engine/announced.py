"""What a running launch announces: the keys of the stages that it needs, for `clean`, and its plan, for `status`.

The keys count while the run's folder is leased.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.prepared import Prepared
from orchestrator.storage.beside import beside
from orchestrator.storage.host import SILENCE
from orchestrator.storage.lease import HEARTBEAT, held, try_lease
from orchestrator.storage.place import RESULTS
from orchestrator.storage.store import read_json, write_json

PLANNED = "stages.json"
PLAN = "plan.json"


@contextmanager
def announced(runs: Iterable[Prepared], whole: bool = True) -> Iterator[None]:
    """Announce the stages of `runs` during the block. Stages that other running launches of these runs announced are kept.

    A launch that will not make the `whole` runs has no plan that `status` could show.
    """
    with ExitStack() as stack:
        for run in runs:
            folder = run.folder
            others = read_json(folder / PLANNED) or () if counts(folder) else ()
            write_json(folder / PLANNED, list(dict.fromkeys([*others, *(key for step in run.steps for key in step.needs)])))
            if whole:
                write_json(folder / PLAN, _plan(run))
            stack.enter_context(_leased(folder))
            stack.callback(_touch, folder / PLANNED)
        yield


@contextmanager
def _leased(folder: Path) -> Iterator[None]:
    """Hold the lease of a run's folder during the block; if another launch of the run holds it, from the end of that one on."""
    with ExitStack() as lease:

        def wait() -> bool:
            """Take the lease if it is free; returns whether another launch holds it."""
            _touch(folder / PLANNED)  # the keys count also between the death of that launch and the next call
            with suppress(OSError, WrongInput), ExitStack() as opened:  # a disk that is full or absent may be there again
                if opened.enter_context(try_lease(folder)):
                    lease.enter_context(opened.pop_all())
                    return False
            return True

        with beside(wait, HEARTBEAT) if wait() else nullcontext():
            yield


def _plan(run: Prepared) -> dict[str, Any]:
    """The stages of a run in order; `expected` are the seconds that a stage will take if an earlier result tells."""
    return {
        "began": time.time(),
        "stages": [
            {
                "stage": step.stage.name,
                "key": step.key,
                "kind": step.stage.recipe.kind,
                "unit": "classes" if step.stage.recipe.over == "classes" else "images",
                "total": len(run.images.classes) if step.stage.recipe.over == "classes" else len(step.items),
                "cached": step.cached,
                "expected": step.estimate.wall if step.estimate else None,
            }
            for step in run.steps
        ],
    }


def _touch(path: Path) -> None:
    with suppress(OSError):  # an absent store must not hide the error of the launch
        os.utime(path)


def keys_of_running(store: Path) -> set[str]:
    """The announced keys of launches that run or ended less than a minute ago: results are written after the end."""
    return {key for run, keys in _planned(store) if counts(run) for key in keys}


def counts(run: Path) -> bool:
    """Whether the keys in a run's folder are those of a launch that runs or ended less than a minute ago."""
    return held(run) or lately(run)


def lately(run: Path) -> bool:
    """Whether a launch has announced the run, or ended, less than a minute ago."""
    with suppress(FileNotFoundError):
        return time.time() - (run / PLANNED).stat().st_mtime < SILENCE
    return False


def keys_of_stopped(store: Path) -> dict[str, str]:
    """The announced keys of launches that ended without results, each with the name of the run that would continue."""
    return {key: run.name for run, keys in _planned(store) if not (run / RESULTS).exists() for key in keys}


def _planned(store: Path) -> Iterator[tuple[Path, Iterable[str]]]:
    for path in sorted((store / "runs").glob(f"*/{PLANNED}")):
        yield path.parent, read_json(path) or ()
