"""What computes knows of a store: a stage's result, to be read, and an attempt at one, which alone may write to it.

Both can be sent to a worker: on its machine they are what that one has of the same store.
"""

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.storage.lease import LEASE, Lease, try_lease
from orchestrator.storage.place import PROGRESS, STOP, Folder, place_of
from orchestrator.storage.shards import shard_is_from, shard_path
from orchestrator.storage.store import read_json, replacing, write_json

MANIFEST, MADE_FROM = "manifest.json", "made_from.json"


@dataclass(frozen=True)
class Result:
    """The finished result in a stage's folder."""

    folder: Path
    digest: str = ""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "folder": (self.place, self.place.name(self.folder))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        place, name = state["folder"]
        vars(self).update({**state, "folder": place.path(name)})

    @property
    def place(self) -> Folder:
        """Where it is kept."""
        return place_of(self.folder)

    def file(self, name: str) -> Path:
        """One of its files, to be read on this machine."""
        return self.place.file(self.folder / name)

    def settle(self) -> None:
        """Make sure that this machine has nothing but this result in the folder; a worker calls it first."""
        self.place.settle(self.folder, self.digest)


@dataclass(frozen=True)
class Attempt(Result):
    """An attempt, named by `token`, at a result that is made from inputs of one digest; the driver has its `lease`."""

    token: str = ""
    made_from: str = field(default="", compare=False)
    lease: Lease | None = field(default=None, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "lease": None}

    def begin(self, made: Sequence[str]) -> None:
        """Drop a request to stop that an earlier launch left and, of what `made` names, what came of other inputs."""
        self.remove(STOP)
        if (read_json(self.folder / MADE_FROM) or {}).get("made_from") != self.made_from:
            for name in (*made, MANIFEST):
                self.remove(name)
            write_json(self.folder / MADE_FROM, {"made_from": self.made_from})
        self.place.begin(self.folder, self.token)

    def again(self) -> "Attempt":
        """Another attempt in place of this one, whose workers can write no more."""
        assert self.lease is not None
        other = replace(self, token=self.lease.renew())
        other.place.begin(other.folder, other.token)
        return other

    def check(self) -> None:
        """Raise LeaseLost or DriverLost where another attempt has taken the stage over, or another launch the whole store."""
        self.place.check(self.folder, self.token)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file that takes the place of `name` once the block has ended well and this attempt may still write."""
        with replacing(self.folder / name) as file:
            yield file
            self.check()

    def remove(self, name: str) -> None:
        """Remove one of its files, if it is there."""
        self.place.remove(self.folder / name)

    def missing(self, count: int) -> list[int]:
        """Those of so many shards that are yet to be made: not there, or of other inputs."""
        self.place.take_over(shard_path(self.folder, 0).parent, "[0-9]*.npz")  # another machine may have made some
        missing = [index for index in range(count) if not shard_is_from(shard_path(self.folder, index), self.made_from)]
        for index in missing:  # workers on other machines may make them, and what they make is brought where nothing is
            shard_path(self.folder, index).unlink(missing_ok=True)
        return missing

    def following(self) -> AbstractContextManager[None]:
        """Hear of a training's progress, and let it hear of a wish to stop, wherever it runs, while the block does."""
        return self.place.in_step(self.folder, push=[STOP], pull=[PROGRESS])

    def resuming(self, checkpoint: str, rank: int) -> AbstractContextManager[None]:
        """Begin a training's worker with the last checkpoint, and keep those that it writes while the block runs."""
        away = (read_json(self.folder / LEASE) or {}).get("token") != self.token  # from the driver, who sees at once what is here
        if away:
            (self.folder / STOP).unlink(missing_ok=True)  # an earlier launch's; a wish of this one comes again
        self.place.take_over(self.folder, checkpoint)  # the one that all workers can have
        if rank:
            return nullcontext()
        push, pull = ([checkpoint, PROGRESS], [STOP]) if away else ([checkpoint], [])
        return self.place.in_step(self.folder, push, pull, self.check)

    def commit(self, manifest: dict[str, Any]) -> None:
        """Let the result count from now on."""
        assert self.lease is not None
        replace(self, token=self.lease.token).check()  # `again` may have renewed it
        write_json(self.folder / MANIFEST, manifest)


def discard_stage(folder: Path, unless: Callable[[], bool] = lambda: False) -> bool:
    """Remove a stage's folder, in one step; whether that was allowed: no launch is making it, and `unless` says no."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    with try_lease(folder) as lease:
        if lease is None or unless():
            return False
        place_of(folder).forget(folder, folder=True)
        folder.rename(aside)
    shutil.rmtree(aside)
    return True
