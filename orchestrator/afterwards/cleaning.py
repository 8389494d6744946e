"""Finds what no run in a store needs, and removes it only when asked to.

A stage is needed if a finished run refers to it, if a running launch has announced it, or if a living launch holds its
lease. Its key identifies a stage; its folder may have the name of another run's stage. A trial that failed is not needed.
"""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.engine import orphans
from orchestrator.engine.announced import counts, keys_of_running, keys_of_stopped, lately
from orchestrator.planning.in_place import IMPORTED
from orchestrator.reading.results import FAILED
from orchestrator.reading.runs import read_results, result_files
from orchestrator.reading.summary import group_name
from orchestrator.storage.lease import held
from orchestrator.storage.place import LOG, MANIFEST, RESULTS, place_of
from orchestrator.storage.result import discard_stage
from orchestrator.storage.store import check_store

SHORT = 12  # a stage's folder ends in this number of characters of its key
STAGE = re.compile(rf".+-[0-9a-f]{{{SHORT}}}")
STALE = 3600  # seconds; a temporary file of this age belongs to a broken write
TOKEN = "[0-9a-f]" * 16
STAGES = ("stages", "stages/*", "stages/*/shards")
RUNS = ("runs", "runs/*")
WRITTEN = (".", "cache", IMPORTED, "reports", "reports/*", *RUNS, "sweeps/*", *STAGES)  # folders whose files are replaced
TEMPORARY = (  # leftovers of `doctor`, the drawing of images and the store's writers if they are killed
    ".doctor-*",
    "images/.shapes-*.*",
    *(f"{place}/.*.{TOKEN}" for place in WRITTEN),
    "stages/*/*.partial",
)


@dataclass(frozen=True)
class Waste:
    """One file or folder that is not needed: why, and how many bytes it holds."""

    path: Path
    why: str
    bytes: int


def find_waste(store: Path) -> list[Waste]:
    """All that is not needed in a store; WrongInput if the folder is no store or a run's results cannot be read."""
    check_store(store)
    found = {**dict(_stages(store)), **dict(_failed(store)), **dict(_imported(store)), **dict(_ray(store))}
    found |= {path: why for path, why in _temporary(store) if found.keys().isdisjoint(path.parents)}
    return [Waste(path, why, place_of(path).size(path)) for path, why in found.items()]


def remove(store: Path, waste: Iterable[Waste]) -> list[Waste]:
    """Remove what was found; returns what was removed. A stage that a launch has taken since then is kept."""
    orphans.reap(store)  # the notes in `ray` name the leftover processes of dead launches: end those before removing the notes
    return [one for one in waste if _remove(store, one.path)]


def needed_keys(store: Path) -> set[str]:
    """The keys that finished and running runs refer to."""
    keys = keys_of_running(store)
    for path in result_files(store):
        try:
            keys |= {entry["key"] for entry in read_results(path)["stages"]}
        except (KeyError, TypeError) as error:
            raise WrongInput(f"{path} does not list its stages, so it is unknown what is needed") from error
    return keys


def _stages(store: Path) -> Iterator[tuple[Path, str]]:
    needed = {key[:SHORT] for key in needed_keys(store)}
    stopped = {key[:SHORT]: run for key, run in keys_of_stopped(store).items()}
    for folder in sorted((store / "stages").glob("*")):
        ours = STAGE.fullmatch(folder.name) and not folder.name.startswith(".") and folder.is_dir() and not folder.is_symlink()
        if ours and folder.name[-SHORT:] not in needed and not held(folder):
            state = "no run refers to it" if (folder / MANIFEST).exists() else "half finished, and nobody works on it"
            run = stopped.get(folder.name[-SHORT:])
            yield folder, f"{state}; the stopped run {run} would continue it" if run else state


def _failed(store: Path) -> Iterator[tuple[Path, str]]:
    """The folders of failed trials, but for those of which a repeat has results, whose tables name the failure.

    A launch has its log in the folder of its first repeat; trials have none.
    """
    runs = store / "runs"
    others = {group_name(path.parent.name) for name in (RESULTS, LOG) for path in runs.glob(f"*/{name}")}
    for folder in sorted(path.parent for path in runs.glob(f"*/{FAILED}")):
        if group_name(folder.name) not in others and not counts(folder):
            yield folder, "a trial that failed; its sweep or table has the reason in its log"


def _imported(store: Path) -> Iterator[tuple[Path, str]]:
    """The networks of bundles that no finished run started from; none while a launch runs, because plans do not name them."""
    used = {Path(read_results(path).get("settings", {}).get(f"{IMPORTED}.network", "")).name for path in result_files(store)}
    for path in sorted((store / IMPORTED).glob("[!.]*.pt")):
        with suppress(FileNotFoundError):
            if path.name not in used and not keys_of_running(store) and time.time() - path.stat().st_mtime > STALE:
                yield path, "a bundle's network that no run refers to"


def _temporary(store: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(path for pattern in TEMPORARY for path in store.glob(pattern)):
        with suppress(FileNotFoundError):  # launches write, rename and remove files at the same time
            if time.time() - path.lstat().st_mtime > STALE:
                yield path, "left by a broken write"


def _ray(store: Path) -> Iterator[tuple[Path, str]]:
    """The notes of Ray and of the launches on it, unless a launch on this or another host may still need them."""
    folder = store / "ray"
    if folder.is_dir() and any(folder.iterdir()) and not orphans.may_live(store):
        yield folder, "notes of launches on Ray that have ended"


def _remove(store: Path, path: Path) -> bool:
    if path.parent == store / "stages" and not path.name.startswith("."):
        return discard_stage(path, unless=lambda: path.name[-SHORT:] in {key[:SHORT] for key in keys_of_running(store)})
    if path.parent == store / "runs" and not path.name.startswith("."):
        return discard_stage(path, unless=lambda: (path / RESULTS).exists() or lately(path))
    if path == store / "ray" and orphans.may_live(store):
        return False  # a launch has begun since then
    if path.is_dir() and not path.is_symlink():
        place_of(path).remove_folder(path)
    else:
        place_of(path).remove(path)
    return True
