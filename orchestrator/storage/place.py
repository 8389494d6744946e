"""The place of a store: a folder, or a bucket with a mirror folder on each machine (`bucket.py`).

`place_of` gives the place of a path in a store. Its users need not know which of the two it is.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from orchestrator.storage.lease import LEASE, check_fence

STORE = Path("wsss-store")  # where results are kept unless --store names another place
AT_ONCE = 16  # files that are read side by side
PROGRESS, STOP = "progress.json", "stop"  # files of a running training: its progress, and a request to stop
NETWORK, HISTORY = "network.pt", "history.json"  # files of a finished training: its weights, and its mean losses per epoch
MANIFEST, MADE_FROM = "manifest.json", "made_from.json"  # files of a stage: a finished result, and the digest of its inputs
RESULTS, RECORD = "results.json", "sweep.json"  # files of a finished run, and of a sweep
LOG = "log.txt"  # the log of a launch, in the folder of its first run


class Folder:
    """A store in a folder that everybody shares; a lease says who may write to a stage."""

    def name(self, path: Path) -> str:
        """The name of a path of the store, which is the same on every machine."""
        return str(path)

    def path(self, name: str) -> Path:
        """The path on this machine that has this name."""
        return Path(name)

    def keep(self, file: Path, path: Path) -> None:
        """Copy `file` to the bucket as `path`; called before `file` replaces `path` on this machine."""

    def file(self, path: Path) -> Path:
        """`path`, which is brought from the bucket if it is only there."""
        return path

    def take_over(self, folder: Path, pattern: str) -> None:
        """Make the files of a folder that match `pattern` equal to the bucket's."""

    def forget(self, path: Path, folder: bool = False) -> None:
        """Delete a file or folder in the bucket."""

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
        """Bytes of a file, or of all files below a folder; 0 for files that are removed meanwhile."""
        if path.is_dir() and not path.is_symlink():
            return sum(_size(Path(folder) / name) for folder, _, names in os.walk(path) for name in names)
        return _size(path)

    def for_pyarrow(self, path: Path) -> tuple[str, Any]:
        """A path for pyarrow and pyarrow's file system of it, None for that of the machine."""
        return str(path), None

    def settle(self, folder: Path) -> None:
        """Drop what this machine has of another result in a stage's folder, and bring the small files of this one."""

    def begin(self, folder: Path, token: str) -> None:
        """Allow writes to a stage's folder only to the attempt with this token; in a folder the lease does this."""

    def check(self, folder: Path, token: str) -> None:
        """Raise LeaseLost or DriverLost unless the attempt with this token may still write."""
        check_fence(folder / LEASE, token)

    def in_step(
        self, folder: Path, push: Sequence[str], pull: Sequence[str], fence: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Exchange files of a stage's folder with other machines during the block."""
        return nullcontext()


FOLDER = Folder()
buckets: dict[Path, Any] = {}  # the buckets of this process, by the roots of their mirrors


def place_of(path: Path) -> Folder:
    """The place of the store that a path lies in."""
    return next((bucket for root, bucket in buckets.items() if path.is_relative_to(root)), FOLDER) if buckets else FOLDER


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:  # a launch has renamed or removed it
        return 0
