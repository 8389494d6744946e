"""The records of per-image stages, in shards below a stage's folder.

A shard is written in one step and has the digest of the inputs that it was made from. A shard of other inputs is made again.
"""

import errno
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from imagesets.errors import WrongInput
from imagesets.side_by_side import side_by_side
from orchestrator.storage.place import AT_ONCE, place_of
from orchestrator.storage.store import digest, replacing

NAMES = "items.json"  # record names, a list for each shard
SUM = "/sum"  # the name of the sum over a shard's items; no item has this name
SHARD = 32  # items: few enough to lose little, enough for a million images


class Shards(Sequence[Sequence[Any]]):
    """`items` in shards of `size`, in order; each shard is cut when it is read."""

    def __init__(self, items: Sequence[Any], size: int = SHARD):
        self.items, self.size = items, size

    def __len__(self) -> int:
        return -(-len(self.items) // self.size)

    def __getitem__(self, index: int) -> Sequence[Any]:  # type: ignore[override]  # no slices
        start = range(len(self))[index] * self.size
        return self.items[start : start + self.size]


def shard_path(folder: Path, index: int) -> Path:
    """The file of shard `index`."""
    return folder / "shards" / f"{index:06d}.npz"


def write_shard(path: Path, records: Mapping[str, Mapping[str, np.ndarray]], made_from: str) -> None:
    """Write the records of one shard; `made_from` is the digest of the inputs."""
    arrays = {f"{item}/{name}": array for item, record in records.items() for name, array in record.items()}
    arrays["/made_from"] = np.asarray(made_from)
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def shard_is_from(path: Path, made_from: str) -> bool:
    """Whether a whole shard is there that was made from exactly these inputs."""
    try:
        with _opened(path) as file:
            return str(file["/made_from"]) == made_from
    except (FileNotFoundError, KeyError, WrongInput):
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a shard; raises WrongInput if the disk or a copy has cut or changed it."""
    try:
        with np.load(path) as file:
            yield file
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, OSError) as error:
        # a changed byte can also name a place before the file, a password or another compression, whose error has no number
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise WrongInput(
            f"{path} is damaged; launch its run again with --force and the name of its stage to make it anew"
        ) from error


def shards_digest(folder: Path, count: int) -> str:
    """One digest over the content of all shards, in order."""

    def of_one(index: int) -> str:
        return digest(place_of(folder).file(shard_path(folder, index)).read_bytes())

    return digest("".join(side_by_side(of_one, range(count), AT_ONCE)).encode())


def write_names(folder: Path, shards: Iterable[Sequence[str]]) -> None:
    """Write the record names of all shards, one shard at a time: those of a million images take a hundred megabytes."""
    with replacing(folder / NAMES) as file:
        file.write(b"[")
        for number, names in enumerate(shards):
            file.write(f"{',' if number else ''}{json.dumps(names)}".encode())
        file.write(b"]")


class StoredRecords(Mapping):
    """The records of a finished per-item stage: item id -> named arrays. One is read at a time."""

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all ids, ascending, and the shard of each; a dict, which every worker would hold, is ten times as large."""
        shards = self._names()
        hashes = np.frombuffer(b"".join(_hash(item) for shard in shards for item in shard), np.uint64)
        order = np.argsort(hashes)
        return hashes[order], np.repeat(np.arange(len(shards), dtype=np.uint32), [len(shard) for shard in shards])[order]

    def _names(self) -> list[list[str]]:
        return json.loads(self._file(self.folder / NAMES).read_text(encoding="utf-8"))

    def _file(self, path: Path) -> Path:
        return place_of(self.folder).file(path)

    def __getitem__(self, item: str) -> dict[str, np.ndarray]:
        hashes, shard_of = self._index
        place = np.searchsorted(hashes, np.frombuffer(_hash(item), np.uint64)[0])
        if place == len(hashes):
            raise KeyError(item)
        # opened each time, because processes that load training images must not share an open zip file
        with _opened(self._file(shard_path(self.folder, int(shard_of[place])))) as file:
            prefix = f"{item}/"
            record = {name[len(prefix) :]: file[name] for name in file if name.startswith(prefix)}
        if not record:
            raise KeyError(item)
        return record

    def in_order(self) -> Iterator[dict[str, np.ndarray]]:
        """All records in the order of their list; each shard is read once."""
        for number, names in enumerate(self._names()):
            with _opened(self._file(shard_path(self.folder, number))) as file:
                found: dict[str, dict[str, np.ndarray]] = {item: {} for item in names}
                for member in file:
                    item, _, name = member.rpartition("/")
                    if item in found:
                        found[item][name] = file[member]
            yield from found.values()

    def __iter__(self) -> Iterator[str]:
        return (item for shard in self._names() for item in shard)

    def __len__(self) -> int:
        return len(self._index[0])


def _hash(item: str) -> bytes:
    return hashlib.blake2b(item.encode(), digest_size=8).digest()


def summed(folder: Path, count: int) -> dict[str, np.ndarray]:
    """The sums over all shards of a stage that stores sums."""
    total: dict[str, np.ndarray] = {}
    for index in range(count):
        with _opened(place_of(folder).file(shard_path(folder, index))) as file:
            for name in file:
                if name.startswith(f"{SUM}/"):
                    total[name] = total.get(name, 0) + file[name]
    return {name.removeprefix(f"{SUM}/"): array for name, array in total.items()}
