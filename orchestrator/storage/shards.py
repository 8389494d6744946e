"""The records of per-image stages, in shards of some tens of items below a stage's folder.

Each shard is atomic and says which inputs it was made from, so that a shard made from other inputs is unfinished work.
"""

import json
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.storage.attached import fetched, fetched_all, publish
from orchestrator.storage.store import digest

SHARD = 32  # items per shard: small enough to lose little, large enough for a million images


def shards(items: Sequence[Any]) -> list[Sequence[Any]]:
    """`items` cut into shards, in order."""
    return [items[start : start + SHARD] for start in range(0, len(items), SHARD)]


def shard_path(folder: Path, index: int) -> Path:
    """The file of shard `index`."""
    return folder / "shards" / f"{index:06d}.npz"


def write_shard(path: Path, records: Mapping[str, Mapping[str, np.ndarray]], made_from: str) -> None:
    """Write the records of one shard; `made_from` is the digest of the inputs."""
    arrays = {f"{item}/{name}": array for item, record in records.items() for name, array in record.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.npz")
    arrays["/made_from"] = np.asarray(made_from)
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    publish(partial, path)
    os.replace(partial, path)


def shard_is_from(path: Path, made_from: str) -> bool:
    """Whether a whole shard is there and was made from exactly these inputs."""
    try:
        with np.load(path) as file:
            return str(file["/made_from"]) == made_from
    except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return False


def shards_digest(folder: Path, count: int) -> str:
    """One digest over the content of all shards, in order."""
    paths = fetched_all(shard_path(folder, index) for index in range(count))
    return digest("".join(digest(path.read_bytes()) for path in paths).encode())


class StoredRecords(Mapping):
    """The records of a finished per-item stage, read one at a time: item id -> named arrays."""

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def _shard_of(self) -> dict[str, int]:
        names = json.loads(fetched(self.folder / "items.json").read_text())
        return {item: index for index, shard in enumerate(names) for item in shard}

    def __getitem__(self, item: str) -> dict[str, np.ndarray]:
        # opened anew each time: an open zip file must not be shared by the processes that load training images
        with np.load(fetched(shard_path(self.folder, self._shard_of[item]))) as file:
            prefix = f"{item}/"
            return {name[len(prefix) :]: file[name] for name in file.files if name.startswith(prefix)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._shard_of)

    def __len__(self) -> int:
        return len(self._shard_of)


def summed(folder: Path, count: int) -> dict[str, np.ndarray]:
    """The sum over shards of a stage that keeps only sums."""
    total: dict[str, np.ndarray] = {}
    for index in range(count):
        with np.load(fetched(shard_path(folder, index))) as file:
            for name in file.files:
                if name != "/made_from":
                    total[name] = total.get(name, 0) + file[name]
    return {name.removeprefix("sum/"): array for name, array in total.items()}
