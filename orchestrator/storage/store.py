"""The store: one folder per stage result, named by its key, on a local or a shared file system, or mirrored from S3.

A stage's folder counts as a result only once its manifest is there, and the manifest is written last and atomically.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from imagesets.errors import WrongInput
from orchestrator.storage.place import place_of
from orchestrator.storage.trouble import MARKER, room_for

FORMAT = 1  # of stage folders and of what the engine does around a stage; part of every key
FOLDERS = ("runs", "stages", "sweeps")  # made when a store is opened: no writer makes more than one folder at a time


class Store:
    """The folders below one root."""

    def __init__(self, root: Path):
        self.root = root

    def open(self) -> bool:
        """Make the store ready to be written; whether it is new."""
        new = not (self.root / "stages").is_dir()
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        if not (self.root / MARKER).exists():
            write_json(self.root / MARKER, {"format": FORMAT})
        return new

    def folder(self, name: str, key: str) -> Path:
        """Where the result with `key` lies, or would: the key finds it, `name` is for people and may be another's that made it.

        Not created here.
        """
        stages, short = self.root / "stages", key[:12]
        made = [found for found in os.listdir(stages) if found.endswith(f"-{short}")] if stages.is_dir() else []
        return stages / (min(made) if made else f"{name}-{short}")

    def results(self, name: str) -> list[dict[str, Any]]:
        """The manifests of all results of stages called `name`."""
        manifests = [read_json(path) for path in (self.root / "stages").glob(f"{name}-*/manifest.json")]
        return [manifest for manifest in manifests if manifest and manifest["stage"] == name]

    def newest(self, name: str) -> dict[str, Any] | None:
        """The manifest of the most recent result of any stage called `name`."""
        return max(self.results(name), key=lambda manifest: manifest["finished"], default=None)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage, or None."""
    return read_json(folder / "manifest.json")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's content, or None where there is none; WrongInput where the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:  # no JSON, no UTF-8
        raise WrongInput(f"{path} is not whole ({error}); remove it, and launch or sweep again to write it") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is never seen half written."""
    write_atomically(path, json.dumps(content, indent=1).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that no other process writes, which takes the place of `path` once the block has ended well.

    The folder is made, but not the one above: where that is gone, so is the store. Raises WrongInput where the disk is full.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with room_for(path):
            path.parent.mkdir(exist_ok=True)
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            place_of(path).keep(partial, path)
            os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def digest(content: bytes) -> str:
    """Short content hash."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
