"""Where a store is kept: in a folder, or in a bucket that each machine has a mirror folder of (`bucket.py`).

Who writes, reads or removes something of a store asks `place_of` its path, and need not know which of the two it is.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from orchestrator.storage.lease import LEASE, check_fence

AT_ONCE = 16  # files that are brought side by side
PROGRESS, STOP = "progress.json", "stop"  # what a running training says, and what it is told


class Folder:
    """A store in a folder: what is written there is there for everybody, and a lease says who may write."""

    def name(self, path: Path) -> str:
        """What a path of the store is called on every machine."""
        return str(path)

    def path(self, name: str) -> Path:
        """The path of such a name on this machine."""
        return Path(name)

    def keep(self, file: Path, path: Path) -> None:
        """Keep the content of `file` as that of `path`; called before `path` is replaced by it."""

    def file(self, path: Path) -> Path:
        """`path`, brought to this machine if it is kept and was not here."""
        return path

    def take_over(self, folder: Path, pattern: str) -> None:
        """Make the files of a folder that match `pattern` those that are kept."""

    def forget(self, path: Path, folder: bool = False) -> None:
        """Keep a file, or a folder, no longer but on this machine."""

    def remove(self, path: Path) -> None:
        """Remove a file, if there is one."""
        self.forget(path)
        path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder, if there is one."""
        self.forget(path, folder=True)
        if path.is_dir():
            shutil.rmtree(path)

    def size(self, path: Path) -> int:
        """Bytes that a file, or all files below a folder, take up where they are kept; 0 of what is gone meanwhile."""
        if path.is_dir() and not path.is_symlink():
            return sum(_size(Path(folder) / name) for folder, _, names in os.walk(path) for name in names)
        return _size(path)

    def for_pyarrow(self, path: Path) -> tuple[str, Any]:
        """A path and the file system of pyarrow that it is on, None for the machine's own."""
        return str(path), None

    def settle(self, folder: Path, digest: str = "") -> None:
        """Make sure that what this machine has of a stage is of the result with this digest, or of the one in the making."""

    def begin(self, folder: Path, token: str) -> None:
        """From now on no attempt but the one with this token may write to a stage's folder; in a folder its lease says so."""

    def check(self, folder: Path, token: str) -> None:
        """Raise LeaseLost or DriverLost unless the attempt with this token may still write."""
        check_fence(folder / LEASE, token)

    def in_step(
        self, folder: Path, push: Sequence[str], pull: Sequence[str], fence: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Keep files of a stage's folder in step with those of other machines, while the block runs."""
        return nullcontext()


FOLDER = Folder()
buckets: dict[Path, Any] = {}  # of this process, by their mirrors' roots


def place_of(path: Path) -> Folder:
    """Where the store is kept that a path lies in."""
    return next((bucket for root, bucket in buckets.items() if path.is_relative_to(root)), FOLDER) if buckets else FOLDER


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:  # launches write, rename and remove files while this looks at them
        return 0
