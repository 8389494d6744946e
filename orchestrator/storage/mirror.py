"""A store in a bucket: a folder of this machine, its mirror, whose files are copied to the remote place as they are written.

The remote is the truth. A file is put there first and only then takes its place in the mirror, so that the mirror never has a
result that the remote has not. A stage's folder in a mirror belongs to the two notes in it (manifest, what it is made from):
where one of them differs from the remote's, the folder is emptied. Everything big is brought when it is read.
"""

import os
import secrets
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from imagesets.side_by_side import side_by_side
from orchestrator.storage.lease import LEASE
from orchestrator.storage.place import AT_ONCE, PROGRESS, STOP, Folder
from orchestrator.storage.remote import Remote

FOLDERS = ("stages", "runs", "sweeps")
CACHE, REPORTS = "cache", "reports"
OWN = (LEASE, PROGRESS, STOP)  # of one attempt on one machine
STAGE_NOTES = ("manifest.json", "made_from.json")


class Mirror(Folder):
    """The files of a remote place and of its mirror folder; their names are the remote's keys."""

    def __init__(self, root: Path, remote: Remote):
        self.root, self.remote = root, remote

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def path(self, name: str) -> Path:
        return self.root / name

    def keep(self, file: Path, path: Path) -> None:
        if path.relative_to(self.root).parts[0] in (*FOLDERS, CACHE, REPORTS) and path.name not in OWN:
            self.remote.put(file.read_bytes(), self.name(path))

    def file(self, path: Path) -> Path:
        if not path.exists():
            self.bring(path)
        return path

    def bring(self, path: Path, info: Any = None) -> None:
        """Bring a file that the remote has, in one step, unless `info` (pyarrow's FileInfo of it) says that it is here."""
        if info is not None and _same(path, info):
            return
        try:
            content = self.remote.get(self.name(path))
        except FileNotFoundError:
            return
        write_here(path, content, info)

    def take_over(self, folder: Path, pattern: str) -> None:
        """Make the files of a folder that match `pattern` the remote's: bring those that differ, drop those it has not."""
        listed = [info for info in self.remote.listed(self.name(folder)) if info.is_file and info.base_name not in OWN]
        infos = {info.base_name: info for info in listed if fnmatch(info.base_name, pattern)}
        gone = [path for path in folder.glob(pattern) if path.name not in infos and path.name not in OWN]
        notes = {name: self._content(folder / name, infos[name]) for name in STAGE_NOTES if name in infos}
        others = [name for name, content in notes.items() if content_of(folder / name) != content]
        if others or any(path.name in STAGE_NOTES for path in gone):
            shutil.rmtree(folder, ignore_errors=True)
        for path in gone:
            path.unlink(missing_ok=True)
        for name, content in notes.items():
            write_here(folder / name, content, infos[name])
        list(side_by_side(lambda name: self.bring(folder / name, infos[name]), infos.keys() - notes, AT_ONCE))

    def _content(self, path: Path, info: Any) -> bytes:
        """What the remote has of a small file that is there."""
        return path.read_bytes() if _same(path, info) else self.remote.get(self.name(path))

    def refresh(self) -> None:
        """Take over the small files of the remote's stages, runs and sweeps: one request each where nothing is new."""
        there = [info.path for name in FOLDERS for info in self.remote.listed(name) if not info.is_file]
        here = [self.name(path) for name in FOLDERS for path in (self.root / name).glob("[!.]*") if path.is_dir()]
        folders = {name.strip("/") for name in [*there, *here, CACHE]}
        list(side_by_side(lambda name: self.take_over(self.root / name, "*.json"), sorted(folders), AT_ONCE))

    def forget(self, path: Path, folder: bool = False) -> None:
        """Delete a file remotely, or a folder, its manifest first: without that nothing in it counts."""
        self.remote.delete(self.name(path / "manifest.json" if folder else path))
        if folder:
            self.remote.delete(self.name(path), folder=True)

    def size(self, path: Path) -> int:
        """Bytes that the bucket has of a folder; of a file none, since those that can go are the mirror's own."""
        listed = self.remote.listed(self.name(path), recursive=True) if path.is_dir() else []
        return sum(info.size for info in listed if info.is_file)

    def for_pyarrow(self, path: Path) -> tuple[str, Any]:
        return f"{self.remote.address.path}/{self.name(path)}", self.remote.files.base_fs


def content_of(path: Path) -> bytes | None:
    """A file's content, None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write_here(path: Path, content: bytes, info: Any = None) -> None:
    """Put content in a mirror in one step, with the time of the remote's `info`, which tells next time that it is the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    partial.write_bytes(content)
    if info is not None:
        os.utime(partial, ns=(info.mtime_ns, info.mtime_ns))
    os.replace(partial, path)


def _same(path: Path, info: Any) -> bool:
    """Whether a file is here as it was brought when the remote's was as `info` says."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns)
