"""The store: a folder for each stage's result, named by its key, on a local or shared file system or mirrored from S3.

A folder counts as a result only if its manifest is there. The manifest is written last and atomically.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from imagesets.errors import WrongInput
from orchestrator.storage.place import MANIFEST, place_of
from orchestrator.storage.trouble import MARKER, room_for

FORMAT = 2  # of stage folders, and of the engine's work around a stage; part of every key
FOLDERS = ("runs", "stages", "sweeps")  # made when a store is opened, because writers make no more than one folder
UNSAFE = re.compile(r"[^\w.-]+")  # in the name of a folder


class Store:
    """The folders below one root."""

    def __init__(self, root: Path):
        self.root = root

    def open(self) -> bool:
        """Make the folders of the store; returns whether it is new."""
        new = not (self.root / "stages").is_dir()
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        if not (self.root / MARKER).exists():
            write_json(self.root / MARKER, {"format": FORMAT})
        return new

    def folder(self, name: str, key: str) -> Path:
        """The folder of the result with `key`, which may not exist yet.

        `name` is for people; an existing folder may have another name, because the key alone identifies it.
        """
        stages, short = self.root / "stages", key[:12]
        made = [found for found in os.listdir(stages) if found.endswith(f"-{short}")] if stages.is_dir() else []
        return stages / (min(made) if made else f"{as_part(name)}-{short}")

    def results(self, name: str) -> list[dict[str, Any]]:
        """The manifests of all results of stages called `name`, but for those of another format."""
        manifests = [read_json(path) for path in (self.root / "stages").glob(f"{as_part(name)}-*/{MANIFEST}")]
        own = [manifest for manifest in manifests if manifest and manifest["identity"].get("format") == FORMAT]
        return [manifest for manifest in own if manifest["stage"] == name]

    def newest(self, name: str) -> dict[str, Any] | None:
        """The manifest of the most recent result of any stage called `name`."""
        return max(self.results(name), key=lambda manifest: manifest["finished"], default=None)


def as_part(name: str) -> str:
    """A name as a part of a folder's name: a stage may be called after a list in a subfolder, and images as their user likes."""
    return UNSAFE.sub("-", name)


def check_store(root: Path) -> None:
    """Raise WrongInput for a folder that is no store."""
    if not root.is_dir():
        raise WrongInput(f"there is no store at {root}; --store names another folder")
    if not ((root / MARKER).exists() or (root / "stages").is_dir()):
        raise WrongInput(f"{root} is no store, as it has no folder stages; --store names one")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage, or None."""
    return read_json(folder / MANIFEST)


def seconds(manifest: Mapping[str, Any], clock: str) -> float | None:
    """The `wall` or `cpu` seconds of a result; None if an earlier attempt did a part of the work, whose seconds are not known."""
    return None if manifest.get("partial") else manifest.get(clock)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's content, or None where there is none; WrongInput where the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:  # no JSON, no UTF-8
        raise WrongInput(f"{path} is not whole ({error}); remove it, and launch or sweep again to write it") from error


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by JSON in one step."""
    write_atomically(path, json.dumps(content, indent=1).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that replaces `path` if the block ends well.

    Its folder is made, but not the one above: if that is gone, so is the store. Raises WrongInput if the disk is full.
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
