"""The mirror of a bucket: a folder of this machine. Files are copied to the bucket as they are written.

The bucket is the truth. A file is put there first and then in the mirror, so that the mirror never has a result that the bucket
lacks. Two notes in a stage's folder (manifest.json, made_from.json) say which result its files belong to; if one differs from the
bucket's, the folder is emptied. Large files are brought when they are read.
"""

import os
import secrets
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from imagesets.side_by_side import side_by_side
from orchestrator.storage.lease import LEASE
from orchestrator.storage.place import AT_ONCE, MADE_FROM, MANIFEST, PROGRESS, STOP, Folder
from orchestrator.storage.remote import Remote

FOLDERS = ("stages", "runs", "sweeps")
CACHE, REPORTS = "cache", "reports"
OWN = (LEASE, PROGRESS, STOP)  # files of one attempt on one machine, which are not copied
STAGE_NOTES = (MANIFEST, MADE_FROM)


class Mirror(Folder):
    """The files in a bucket and in its mirror folder; their names are the keys in the bucket."""

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
        """Bring a file from the bucket, if it is there; not if `info`, pyarrow's FileInfo of it, fits the file in the mirror."""
        if info is not None and _same(path, info):
            return
        try:
            content = self.remote.get(self.name(path))
        except FileNotFoundError:
            return
        write_here(path, content, info)

    def take_over(self, folder: Path, pattern: str) -> None:
        """Make the files of a folder that match `pattern` equal to the bucket's: bring what differs, drop what it lacks."""
        listed = [info for info in self.remote.listed(self.name(folder)) if info.is_file and info.base_name not in OWN]
        infos = {info.base_name: info for info in listed if fnmatch(info.base_name, pattern)}
        here = {path.name: path for path in folder.glob(pattern) if path.name not in OWN}
        notes = {name: self._note(folder / name, infos[name]) for name in STAGE_NOTES if name in infos}
        of_another_result = notes != {name: _content_of(here[name]) for name in STAGE_NOTES if name in here}
        if of_another_result:
            shutil.rmtree(folder, ignore_errors=True)
        for name in here.keys() - infos.keys():
            here[name].unlink(missing_ok=True)
        for name, content in notes.items():
            write_here(folder / name, content, infos[name])
        list(side_by_side(lambda name: self.bring(folder / name, infos[name]), infos.keys() - notes, AT_ONCE))

    def _note(self, path: Path, info: Any) -> bytes:
        """The bucket's content of a small file."""
        return path.read_bytes() if _same(path, info) else self.remote.get(self.name(path))

    def refresh(self) -> None:
        """Take over the small files of all stages, runs and sweeps: one request for a folder with nothing new."""
        there = [info.path for name in FOLDERS for info in self.remote.listed(name) if not info.is_file]
        here = [self.name(path) for name in FOLDERS for path in (self.root / name).glob("[!.]*") if path.is_dir()]
        folders = {name.strip("/") for name in [*there, *here, CACHE]}
        list(side_by_side(lambda name: self.take_over(self.root / name, "*.json"), sorted(folders), AT_ONCE))

    def forget(self, path: Path, folder: bool = False) -> None:
        """Delete a file or folder in the bucket; a folder's manifest first, because without it nothing in the folder counts."""
        self.remote.delete(self.name(path / MANIFEST if folder else path))
        if folder:
            self.remote.delete(self.name(path), folder=True)

    def size(self, path: Path) -> int:
        """Bytes of a folder in the bucket; 0 for a file, because the files that `clean` removes are in the mirror only."""
        listed = self.remote.listed(self.name(path), recursive=True) if path.is_dir() else []
        return sum(info.size for info in listed if info.is_file)

    def for_pyarrow(self, path: Path) -> tuple[str, Any]:
        return f"{self.remote.address.path}/{self.name(path)}", self.remote.files.base_fs


def _content_of(path: Path) -> bytes | None:
    """A file's content, None if there is no file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write_here(path: Path, content: bytes, info: Any = None) -> None:
    """Write a file of the mirror in one step, with the time of the bucket's `info`, so that it is recognised as equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    partial.write_bytes(content)
    if info is not None:
        os.utime(partial, ns=(info.mtime_ns, info.mtime_ns))
    os.replace(partial, path)


def _same(path: Path, info: Any) -> bool:
    """Whether the mirror's file is the one that `info` describes."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns)
