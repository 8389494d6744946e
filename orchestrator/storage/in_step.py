"""Keeps some files of a stage's folder in step with the bucket while a training runs, beside it and not in its way."""

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
    """Push the files of `folder` that are named in `push` as they change, and pull others, while the block lasts.

    Where the block ends in an exception (a wish to stop, above all), they are pushed once more, for certain.
    A network that fails for a while costs the training nothing: the next look does it. `fence` raises LeaseLost or DriverLost
    where somebody else has taken over: from then on nothing is pushed.
    """
    pair = _Pair(folder, mirror, push, pull, fence)
    try:
        with beside(pair.keep, PACE):
            yield
    except (LeaseLost, DriverLost):
        raise
    except BaseException:
        for name in push:
            pair.push_changed(name, mirror.remote)
        raise


class _Pair:
    def __init__(self, folder: Path, mirror: Mirror, push: Sequence[str], pull: Sequence[str], fence: Callable[[], None]):
        self.folder, self.mirror, self.push, self.pull, self.fence = folder, mirror, push, pull, fence
        self.patient = Remote(mirror.remote.address, patience=0)
        self.pushed = {name: _version(folder / name) for name in push}
        self.pulled: dict[str, int] = {}

    def keep(self) -> bool:
        """One look; whether there is to be another."""
        try:
            for name in self.push:
                self.push_changed(name, self.patient)
            for name in self.pull:
                self._pull_changed(name)
        except (LeaseLost, DriverLost):
            return False  # the training meets it too, at its next checkpoint
        except OSError as error:
            logging.warning("%s is not in step with the bucket: %s", self.folder.name, error)
        return True

    def push_changed(self, name: str, remote: Remote) -> None:
        path = self.folder / name
        version = _version(path)
        if version and version != self.pushed.get(name):
            self.fence()
            remote.put(path.read_bytes(), self.mirror.name(path))
            self.pushed[name] = version

    def _pull_changed(self, name: str) -> None:
        path = self.folder / name
        info = self.patient.about(self.mirror.name(path))
        if info is not None and info.mtime_ns != self.pulled.get(name):
            self.mirror.bring(path)
            self.pulled[name] = info.mtime_ns


def _version(path: Path) -> int:
    """Tells one content of a file from another; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
