"""Exchanges files of a stage's folder with the bucket while a training runs, without delaying it."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orchestrator.storage.beside import beside
from orchestrator.storage.lease import DriverLost, LeaseLost
from orchestrator.storage.mirror import Mirror
from orchestrator.storage.remote import Remote

PACE = 2.0  # seconds between two looks; a look is a request for each file


@contextlib.contextmanager
def in_step(mirror: Mirror, folder: Path, push: Sequence[str], pull: Sequence[str], fence: Callable[[], None]) -> Iterator[None]:
    """During the block, put the files named in `push` in the bucket when they change, and bring those named in `pull`.

    If the network fails, the next look tries again. If the block ends in an exception, such as a request to stop, changed files
    are pushed once more. `fence` raises LeaseLost or DriverLost if another has taken over; then nothing is pushed any more.
    """
    pushed, pulled = {name: _version(folder / name) for name in push}, dict[str, int]()
    hurried = Remote(mirror.remote.address, patience=0)

    def push_changed(remote: Remote) -> None:
        for path in (folder / name for name in push):
            if (version := _version(path)) and version != pushed[path.name]:
                fence()
                remote.put(path.read_bytes(), mirror.name(path))
                pushed[path.name] = version

    def pull_changed() -> None:
        for path in (folder / name for name in pull):
            info = hurried.about(mirror.name(path))
            if info is not None and info.mtime_ns != pulled.get(path.name):
                mirror.bring(path)
                pulled[path.name] = info.mtime_ns

    def keep() -> bool:
        try:
            push_changed(hurried)
            pull_changed()
        except (LeaseLost, DriverLost):
            return False  # the training meets it at its next checkpoint
        except OSError as error:
            logging.warning("%s is not in step with the bucket: %s", folder.name, error)
        return True

    try:
        with beside(keep, PACE):
            yield
    except (LeaseLost, DriverLost):
        raise
    except BaseException:
        push_changed(mirror.remote)
        raise


def _version(path: Path) -> int:
    """A number that changes with a file's content; 0 if there is no file."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
