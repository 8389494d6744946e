"""The mirrors that this process has to do with, and what writers and readers of a store ask of them.

Every function here does nothing, at the cost of one look into an empty table, for a store that is no mirror.
"""

import json
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator.storage.lease import held
from orchestrator.storage.mirror import AT_ONCE, STAGE_NOTES, Mirror, content_of, locked, mirror_folder, write_note
from orchestrator.storage.remote import PATIENCE, SHORT, Address, Remote, refuse_unusable
from orchestrator.storage.trouble import MARKER

_mirrors: dict[Path, Mirror] = {}  # of this process, by root


@dataclass(frozen=True)
class Attachment:
    """What a worker on another node needs to reach the store: its address, the driver's mirror and the driver's token."""

    address: Address
    root: Path
    driver: str


def mirror_of(path: Path) -> Mirror | None:
    """The mirror that a path lies in, None for a local store."""
    return next((mirror for root, mirror in _mirrors.items() if path.is_relative_to(root)), None) if _mirrors else None


def publish(file: Path, path: Path) -> None:
    """Put the content of `file` where `path` is kept remotely; before `path` is replaced by it."""
    if (mirror := mirror_of(path)) and mirror.keeps(path):
        mirror.remote.put(file.read_bytes(), mirror.key(path))


def fetched(path: Path) -> Path:
    """`path`, brought here if it was not and the remote has it."""
    if (mirror := mirror_of(path)) and not path.exists():
        mirror.get(path)
    return path


def fetched_all(paths: Iterable[Path]) -> list[Path]:
    """The same for many, several at once."""
    wanted = list(paths)
    if not wanted or mirror_of(wanted[0]) is None:
        return wanted
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(fetched, wanted))


def remove_remote(path: Path) -> None:
    """Delete what the remote has of a file or a folder, of a folder its manifest first."""
    if mirror := mirror_of(path):
        if path.is_file():
            mirror.remote.delete(mirror.key(path))
        else:
            mirror.remote.delete(mirror.key(path / "manifest.json"))
            mirror.remote.delete_folder(mirror.key(path))


def remove(path: Path) -> None:
    """Remove a file, if there is one, here and remotely."""
    if mirror := mirror_of(path):
        mirror.remote.delete(mirror.key(path))
    path.unlink(missing_ok=True)


def attach(root: Path, address: Address, patience: float) -> Mirror:
    """Make `root` the mirror of an address in this process."""
    if root not in _mirrors:
        root.mkdir(parents=True, exist_ok=True)
        write_note(root, address)
        (root / MARKER).touch()  # a mirror is made anew where it is gone: it never was the store itself
        _mirrors[root] = Mirror(root, Remote(address, patience))
    return _mirrors[root]


def attachment(root: Path) -> Attachment | None:
    """What workers are told of the store at `root`; None for a local one."""
    mirror = mirror_of(root)
    return Attachment(mirror.remote.address, mirror.root, mirror.driver) if mirror else None


def attach_worker(told: Attachment) -> Path:
    """Attach this process, a worker's; the root of its machine's mirror."""
    root = told.root if told.root in _mirrors else mirror_folder(told.address)
    return attach(root, told.address, PATIENCE).root


def belongs(folder: Path, digest: str) -> None:
    """Make sure that what a mirror has of a finished stage is of the result with this digest: else it is emptied."""
    mirror = mirror_of(folder)
    assert mirror is not None
    with locked(mirror.root):
        path = folder / "manifest.json"
        if json.loads(content_of(path) or b"{}").get("digest") != digest:
            shutil.rmtree(folder, ignore_errors=True)
        for name in STAGE_NOTES:  # without both, the next command here would take the folder for another result's
            fetched(folder / name)


def open_mirror(root: Path, address: Address) -> Path:
    """Attach for a command: WrongInput if the place cannot be used; what is new there is taken over. The mirror's root."""
    mirror = attach(root, address, SHORT)
    refuse_unusable(mirror.remote)
    with locked(root):
        if not held(root):  # else a launch of this machine keeps it up to date, and must not be disturbed
            mirror.refresh()
    return root
