"""A stage's result, which is read, and an attempt at a result, which alone may write. Stages know nothing else of a store.

Both can be sent to a worker; there they refer to the same store as its machine sees it.
"""

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from orchestrator.storage.lease import LEASE, Lease, read_lease, try_lease
from orchestrator.storage.place import MADE_FROM, MANIFEST, PROGRESS, STOP, Folder, place_of
from orchestrator.storage.shards import shard_is_from, shard_path, write_shard
from orchestrator.storage.store import read_json, replacing, write_json


@dataclass(frozen=True)
class Result:
    """The finished result in a stage's folder."""

    folder: Path

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "folder": (self.place, self.place.name(self.folder))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        place, name = state["folder"]
        vars(self).update({**state, "folder": place.path(name)})

    @property
    def place(self) -> Folder:
        """The place of the store."""
        return place_of(self.folder)

    def file(self, name: str) -> Path:
        """The path of one of its files, which is brought to this machine if needed."""
        return self.place.file(self.folder / name)

    def settle(self) -> None:
        """Drop what this machine has of other results in the folder; a worker calls this first."""
        self.place.settle(self.folder)


@dataclass(frozen=True)
class Attempt(Result):
    """An attempt, named by `token`, at a result; `made_from` is the digest of its inputs. Only the driver has the `lease`."""

    token: str = ""
    made_from: str = field(default="", compare=False)
    lease: Lease | None = field(default=None, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "lease": None}

    def begin(self, made: Sequence[str]) -> None:
        """Drop an earlier request to stop and, if the inputs have changed, the files named in `made`."""
        self.remove(STOP)
        if (read_json(self.folder / MADE_FROM) or {}).get("made_from") != self.made_from:
            for name in (*made, MANIFEST):
                self.remove(name)
            write_json(self.folder / MADE_FROM, {"made_from": self.made_from})
        self.place.begin(self.folder, self.token)

    def again(self) -> "Attempt":
        """A new attempt in place of this one, whose workers can write no more."""
        assert self.lease is not None
        other = replace(self, token=self.lease.renew())
        other.place.begin(other.folder, other.token)
        return other

    def check(self) -> None:
        """Raise LeaseLost if another attempt has taken over the stage, DriverLost if another launch has taken over the store."""
        self.place.check(self.folder, self.token)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file that replaces `name` if the block ends well and this attempt may still write."""
        with replacing(self.folder / name) as file:
            yield file
            self.check()

    def write_shard(self, index: int, records: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Write the records of one shard, if this attempt may still write."""
        self.check()
        write_shard(shard_path(self.folder, index), records, self.made_from)

    def remove(self, name: str) -> None:
        """Remove one of its files, if it is there."""
        self.place.remove(self.folder / name)

    def missing(self, count: int) -> list[int]:
        """The shards among `count` that must be made, because they are not there or were made from other inputs."""
        self.place.take_over(shard_path(self.folder, 0).parent, "[0-9]*.npz")  # other machines may have made some
        missing = [index for index in range(count) if not shard_is_from(shard_path(self.folder, index), self.made_from)]
        for index in missing:  # workers on other machines may make it; it is brought only if no file is here
            shard_path(self.folder, index).unlink(missing_ok=True)
        return missing

    def following(self) -> AbstractContextManager[None]:
        """Receive a training's progress and send it a request to stop, on whatever machine it runs, during the block."""
        return self.place.in_step(self.folder, push=[STOP], pull=[PROGRESS])

    def resuming(self, checkpoint: str, rank: int) -> AbstractContextManager[None]:
        """Give a training's worker the last checkpoint, and keep those that it writes during the block."""
        lease = read_lease(self.folder / LEASE) or {}
        away = lease.get("token") != self.token  # on another machine than the driver's
        if away:
            (self.folder / STOP).unlink(missing_ok=True)  # of an earlier launch; a request of this one is sent again
        self.place.take_over(self.folder, checkpoint)  # the same for all workers
        if rank:
            return nullcontext()
        push, pull = ([checkpoint, PROGRESS], [STOP]) if away else ([checkpoint], [])
        return self.place.in_step(self.folder, push, pull, self.check)

    def commit(self, manifest: dict[str, Any]) -> None:
        """Write the manifest; from now on the result counts."""
        assert self.lease is not None
        replace(self, token=self.lease.token).check()  # `again` may have renewed it
        write_json(self.folder / MANIFEST, manifest)


def discard_stage(folder: Path, unless: Callable[[], bool] = lambda: False) -> bool:
    """Remove a stage's folder in one step; returns False, and removes nothing, if a launch is making it or `unless` is true."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    with try_lease(folder) as lease:
        if lease is None or unless():
            return False
        place_of(folder).forget(folder, folder=True)
        folder.rename(aside)
    shutil.rmtree(aside)
    return True
