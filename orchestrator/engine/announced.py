"""What a running launch announces: the keys of the stages that it needs, for `clean`, and its plan, for `status`.

The keys count while the run's folder is leased.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.planning.launch import Prepared
from orchestrator.storage.host import SILENCE
from orchestrator.storage.lease import held, try_lease
from orchestrator.storage.store import read_json, write_json

PLANNED, RESULTS = "stages.json", "results.json"
PLAN = "plan.json"


@contextmanager
def announced(runs: Iterable[Prepared], whole: bool = True) -> Iterator[None]:
    """Announce the stages of `runs` during the block. Stages that other running launches of these runs announced are kept.

    A launch that will not make the `whole` runs has no plan that `status` could show.
    """
    with ExitStack() as stack:
        for run in runs:
            folder = run.request.store / "runs" / run.run
            others = read_json(folder / PLANNED) or () if held(folder) else ()
            write_json(folder / PLANNED, list(dict.fromkeys([*others, *(key for step in run.steps for key in step.needs)])))
            if whole:
                write_json(folder / PLAN, _plan(run))
            stack.callback(_touch, folder / PLANNED)
            stack.enter_context(try_lease(folder))
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
