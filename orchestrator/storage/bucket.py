"""A store in a bucket: a folder of this machine, its mirror, whose files are copied to the remote place as they are written.

The remote is the truth. A file is put there first and only then takes its place in the mirror, so that the mirror never has a
result that the remote has not. A stage's folder in a mirror belongs to the two notes in it (manifest, what it is made from):
where one of them differs from the remote's, the folder is emptied. Everything big is brought when it is read.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from orchestrator.storage.in_step import in_step
from orchestrator.storage.lease import LEASE, DriverLost, LeaseLost, check_fence, held
from orchestrator.storage.mirror import content_of, locked, mirror_folder, same, write_note
from orchestrator.storage.place import Folder, buckets
from orchestrator.storage.remote import PATIENCE, SHORT, Address, Remote, refuse_unusable
from orchestrator.storage.trouble import MARKER

AT_ONCE = 16  # requests side by side
FOLDERS = ("stages", "runs", "sweeps")  # what the remote has, besides
CACHE, REPORTS = "cache", "reports"
FLAGS = "drivers"  # of the launches that write
ATTEMPT = "attempt"  # in the remote folder of a training: the token of the attempt whose writes count
PROGRESS, STOP = "progress.json", "stop"
OWN = (LEASE, PROGRESS, STOP)  # of one attempt on one machine
STAGE_NOTES = ("manifest.json", "made_from.json")


class Bucket(Folder):
    """A remote place and its mirror folder; `driver` is the token of the launch that writes, in its own processes."""

    def __init__(self, root: Path, remote: Remote):
        self.root, self.remote, self.driver = root, remote, ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_worker, (self.remote.address, self.root, self.driver)

    def name(self, path: Path) -> str:
        """The remote name of a file or folder of the mirror."""
        return path.relative_to(self.root).as_posix()

    def path(self, name: str) -> Path:
        """Where it is in this machine's mirror."""
        return self.root / name

    def keeps(self, path: Path) -> bool:
        """Whether the remote has such a file too."""
        return path.relative_to(self.root).parts[0] in (*FOLDERS, CACHE, REPORTS) and path.name not in OWN

    def keep(self, file: Path, path: Path) -> None:
        """Put the content of `file` where `path` is kept remotely."""
        if self.keeps(path):
            self.remote.put(file.read_bytes(), self.name(path))

    def file(self, path: Path) -> Path:
        """`path`, brought here if it was not and the remote has it."""
        if not path.exists():
            self.bring(path)
        return path

    def files(self, paths: Iterable[Path]) -> list[Path]:
        """The same for many, several at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.file, paths))

    def bring(self, path: Path, info: Any = None) -> None:
        """Bring a file that the remote has, in one step, unless `info` (pyarrow's FileInfo of it) says that it is here."""
        if info is not None and same(path, info):
            return
        try:
            content = self.remote.get(self.name(path))
        except FileNotFoundError:
            return
        _write(path, content, info)

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
            _write(folder / name, content, infos[name])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self.bring(folder / name, infos[name]), infos.keys() - notes))

    def _content(self, path: Path, info: Any) -> bytes:
        """What the remote has of a small file that is there."""
        return path.read_bytes() if same(path, info) else self.remote.get(self.name(path))

    def refresh(self) -> None:
        """Take over the small files of the remote's stages, runs and sweeps: one request each where nothing is new."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            there = [info.path for listed in pool.map(self.remote.listed, FOLDERS) for info in listed if not info.is_file]
            here = [self.name(path) for name in FOLDERS for path in (self.root / name).glob("[!.]*") if path.is_dir()]
            folders = {name.strip("/") for name in [*there, *here, CACHE]}
            list(pool.map(lambda name: self.take_over(self.root / name, "*.json"), sorted(folders)))

    def forget(self, path: Path, folder: bool = False) -> None:
        """Delete a file remotely, or a folder, its manifest first: without that nothing in it counts."""
        self.remote.delete(self.name(path / "manifest.json" if folder else path))
        if folder:
            self.remote.delete_folder(self.name(path))

    def size(self, path: Path) -> int:
        """Bytes that the bucket has of a folder; of a file none, since those that can go are the mirror's own."""
        listed = self.remote.listed(self.name(path), recursive=True) if path.is_dir() else []
        return sum(info.size for info in listed if info.is_file)

    def for_pyarrow(self, path: Path) -> tuple[str, Any]:
        """Bucket and key of a path, and the file system that the bucket is on."""
        return f"{self.remote.address.path}/{self.name(path)}", self.remote.files.base_fs

    def settle(self, folder: Path, digest: str = "") -> None:
        """Empty what the mirror has of another result than the one with this digest, and bring the two notes.

        Without both notes, the next command here would take the folder for another result's.
        """
        with locked(self.root):
            if digest and json.loads(content_of(folder / "manifest.json") or b"{}").get("digest") != digest:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            for name in STAGE_NOTES if digest else STAGE_NOTES[1:]:
                self.file(folder / name)

    def begin(self, folder: Path, token: str) -> None:
        """Note remotely which attempt may write to a training's folder."""
        self.remote.put(token.encode(), self.name(folder / ATTEMPT))

    def check(self, folder: Path, token: str, alone: bool) -> None:
        """Raise DriverLost unless the launch has its flag up, LeaseLost unless this attempt is the last that has begun."""
        if self.driver and self.remote.about(flag(self.driver)) is None:
            raise DriverLost(f"another launch has taken over the store {self.remote.address.uri}")
        if alone and self.remote.get(self.name(folder / ATTEMPT)) != token.encode():
            raise LeaseLost(f"another attempt has taken over {folder.name}")

    def following(self, folder: Path) -> AbstractContextManager[None]:
        """Pull the progress and push a wish to stop; both are the driver's in its own mirror."""
        return in_step(self, folder, push=[STOP], pull=[PROGRESS])

    def resuming(
        self, folder: Path, token: str, checkpoint: str, rank: int, fence: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Take the remote's checkpoint over, and push those that are written here.

        All workers must start from the same one, and only the remote's is what all can have.
        """
        beside = _holds_lease(
            folder, token
        )  # this is the driver's own mirror: progress and a wish to stop are seen there at once
        if not beside:
            (folder / STOP).unlink(missing_ok=True)  # an earlier launch's; a wish of this one is pulled again
        self.take_over(folder, checkpoint)
        if rank:
            return nullcontext()
        push, pull = ([], []) if beside else ([PROGRESS], [STOP])
        return in_step(self, folder, [checkpoint, *push], pull, last=(checkpoint,), fence=fence)


def flag(token: str) -> str:
    """The remote name of a launch's flag."""
    return f"{FLAGS}/{token}.json"


def attach(root: Path, address: Address, patience: float) -> Bucket:
    """Make `root` the mirror of an address in this process."""
    if root not in buckets:
        root.mkdir(parents=True, exist_ok=True)
        write_note(root, address)
        (root / MARKER).touch()  # a mirror is made anew where it is gone: it never was the store itself
        buckets[root] = Bucket(root, Remote(address, patience))
    found = buckets[root]
    assert isinstance(found, Bucket)
    return found


def open_bucket(root: Path, address: Address) -> Path:
    """Attach for a command: WrongInput if the place cannot be used; what is new there is taken over. The mirror's root."""
    bucket = attach(root, address, SHORT)
    refuse_unusable(bucket.remote)
    with locked(root):
        if not held(root):  # else a launch of this machine keeps it up to date, and must not be disturbed
            bucket.refresh()
    return root


def _of_worker(address: Address, root: Path, driver: str) -> Bucket:
    """The bucket of a launch with the mirror at `root`, as a worker on any machine reaches it."""
    bucket = attach(root if root in buckets else mirror_folder(address), address, PATIENCE)
    bucket.driver = driver
    return bucket


def _holds_lease(folder: Path, token: str) -> bool:
    try:
        check_fence(folder / LEASE, token)
        return True
    except LeaseLost:
        return False


def _write(path: Path, content: bytes, info: Any = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    partial.write_bytes(content)
    if info is not None:
        os.utime(partial, ns=(info.mtime_ns, info.mtime_ns))  # tells next time that it is the same
    os.replace(partial, path)
