"""A store on S3 is a folder of this machine, its mirror, whose files are copied to the remote place as they are written.

The remote is the truth. A file is put there first and only then takes its place in the mirror, so that the mirror never has a
result that the remote has not. A stage's folder in a mirror belongs to the two notes in it (manifest, what it is made from):
where one of them differs from the remote's, the folder is emptied. Everything big is fetched when it is read.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.storage.remote import Address, Remote

VARIABLE = "WSSS_ORCH_MIRRORS"  # the folder in which mirrors lie, on each machine its own
NOTE = "remote.json"
FOLDERS = ("stages", "runs", "sweeps")  # what the remote has, besides
CACHE, REPORTS = "cache", "reports"
OWN = ("lease.json", "progress.json", "stop")  # of one attempt on one machine
STAGE_NOTES = ("manifest.json", "made_from.json")
AT_ONCE = 16  # requests side by side


class Mirror:
    """One mirror folder and its remote place; `driver` is the token of the launch that writes, in its processes."""

    def __init__(self, root: Path, remote: Remote):
        self.root, self.remote, self.driver = root, remote, ""

    def key(self, path: Path) -> str:
        """The remote name of a file or folder of the mirror."""
        return path.relative_to(self.root).as_posix()

    def keeps(self, path: Path) -> bool:
        """Whether the remote has such a file too."""
        return path.relative_to(self.root).parts[0] in (*FOLDERS, CACHE, REPORTS) and path.name not in OWN

    def get(self, path: Path, info: Any = None) -> bool:
        """Bring a file in one step, unless `info` (pyarrow's FileInfo of it) says that it is here; whether it is there."""
        if info is not None and same(path, info):
            return True
        try:
            content = self.remote.get(self.key(path))
        except FileNotFoundError:
            return False
        self._write(path, content, info)
        return True

    def _write(self, path: Path, content: bytes, info: Any = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        partial.write_bytes(content)
        if info is not None:
            os.utime(partial, ns=(info.mtime_ns, info.mtime_ns))  # tells next time that it is the same
        os.replace(partial, path)

    def bring(self, folder: Path, pattern: str, at_once: int = 1) -> None:
        """Make the files of a folder that match `pattern` the remote's: bring those that differ, drop those it has not."""
        listed = [info for info in self.remote.listed(self.key(folder)) if info.is_file and info.base_name not in OWN]
        infos = {info.base_name: info for info in listed if fnmatch(info.base_name, pattern)}
        gone = [path for path in folder.glob(pattern) if path.name not in infos and path.name not in OWN]
        notes = {name: self._content(folder / name, infos[name]) for name in STAGE_NOTES if name in infos}
        others = [name for name, content in notes.items() if content_of(folder / name) != content]
        if others or any(path.name in STAGE_NOTES for path in gone):
            shutil.rmtree(folder, ignore_errors=True)
        for path in gone:
            path.unlink(missing_ok=True)
        for name, content in notes.items():
            self._write(folder / name, content, infos[name])
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda name: self.get(folder / name, infos[name]), infos.keys() - notes))

    def _content(self, path: Path, info: Any) -> bytes:
        """What the remote has of a small file that is there."""
        return path.read_bytes() if same(path, info) else self.remote.get(self.key(path))

    def refresh(self) -> None:
        """Take over the small files of the remote's stages, runs and sweeps: one request each where nothing is new."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            there = [info.path for listed in pool.map(self.remote.listed, FOLDERS) for info in listed if not info.is_file]
            here = [self.key(path) for name in FOLDERS for path in (self.root / name).glob("[!.]*") if path.is_dir()]
            folders = {name.strip("/") for name in [*there, *here, CACHE]}
            list(pool.map(lambda name: self.bring(self.root / name, "*.json"), sorted(folders)))


def noted_address(root: Path) -> Address | None:
    """The address whose mirror a folder is, None for any other folder."""
    note = content_of(root / NOTE)
    return Address(**json.loads(note)) if note else None


def mirror_folder(address: Address) -> Path:
    """Where on this machine the mirror of an address lies."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parent = os.environ.get(VARIABLE) or Path(cache) / "wsss-orch"
    place = f"{urlsplit(address.endpoint).netloc or 's3'}/{address.path}"
    told = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()  # two places may differ in what a file name cannot hold
    return Path(parent).expanduser().resolve() / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', place)}-{told}"


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Nobody else on this machine changes what a mirror takes from its remote while the block runs."""
    with (root / ".lock").open("w", encoding="utf-8") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # released when the file is closed
        yield


def same(path: Path, info: Any) -> bool:
    """Whether a file is here as it was brought when the remote's was as `info` says."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns)


def write_note(root: Path, address: Address) -> None:
    """Note in a folder that it is the mirror of an address."""
    path, content = root / NOTE, json.dumps(asdict(address)).encode()
    if content_of(path) != content:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        partial.write_bytes(content)
        os.replace(partial, path)


def content_of(path: Path) -> bytes | None:
    """A file's content, None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
