"""Keeps some files of a stage's folder in step with the bucket while a training runs, beside it and not in its way."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.storage.lease import DriverLost, LeaseLost
from orchestrator.storage.remote import Remote

if TYPE_CHECKING:
    from orchestrator.storage.bucket import Bucket

PACE = 2.0  # seconds between two looks; a look is a request for each file


@contextlib.contextmanager
def in_step(
    bucket: "Bucket",
    folder: Path,
    push: Sequence[str],
    pull: Sequence[str],
    last: Sequence[str] = (),
    fence: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Push the files of `folder` that are named in `push` as they change, and pull others, while the block lasts.

    Where the block ends in an exception (a wish to stop, above all), those named `last` are pushed once more, for certain.
    A network that fails for a while costs the training nothing: the next look does it. `fence` raises LeaseLost or DriverLost
    where somebody else has taken over: from then on nothing is pushed.
    """
    pair = _Pair(folder, bucket, push, pull, fence)
    ended = threading.Event()
    thread = threading.Thread(target=pair.keep, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    except (LeaseLost, DriverLost):
        _end(thread, ended)
        raise
    except BaseException:
        _end(thread, ended)
        for name in last:
            pair.push_changed(name, bucket.remote)
        raise
    _end(thread, ended)


class _Pair:
    def __init__(self, folder: Path, bucket: "Bucket", push: Sequence[str], pull: Sequence[str], fence: Callable[[], None]):
        self.folder, self.bucket, self.push, self.pull, self.fence = folder, bucket, push, pull, fence
        self.patient = Remote(bucket.remote.address, patience=0)
        self.pushed = {name: _version(folder / name) for name in push}
        self.pulled: dict[str, int] = {}

    def keep(self, ended: threading.Event) -> None:
        while not ended.wait(PACE):
            try:
                for name in self.push:
                    self.push_changed(name, self.patient)
                for name in self.pull:
                    self._pull_changed(name)
            except (LeaseLost, DriverLost):
                return  # the training meets it too, at its next checkpoint
            except OSError as error:
                logging.warning("%s is not in step with the remote place: %s", self.folder.name, error)

    def push_changed(self, name: str, remote: Remote) -> None:
        path = self.folder / name
        version = _version(path)
        if version and version != self.pushed.get(name):
            self.fence()
            remote.put(path.read_bytes(), self.bucket.name(path))
            self.pushed[name] = version

    def _pull_changed(self, name: str) -> None:
        path = self.folder / name
        info = self.patient.about(self.bucket.name(path))
        if info is not None and info.mtime_ns != self.pulled.get(name):
            self.bucket.bring(path)
            self.pulled[name] = info.mtime_ns


def _end(thread: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    thread.join()


def _version(path: Path) -> int:
    """Tells one content of a file from another; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
