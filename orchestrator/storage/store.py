"""The store: one folder per stage result, named by its key, on a local or a shared file system, or mirrored from S3.

A stage's folder counts as a result only once its manifest is there, and the manifest is written last and atomically.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from orchestrator.storage.attached import publish

FORMAT = 1  # of stage folders and of what orchestrator.engine.work does around a stage; part of every key


class Store:
    """The folders below one root."""

    def __init__(self, root: Path):
        self.root = root

    def folder(self, name: str, key: str) -> Path:
        """Where the result with `key` lies, or would: the key finds it, `name` is for people and may be another's that made it.

        Not created here.
        """
        stages, short = self.root / "stages", key[:12]
        made = [found for found in os.listdir(stages) if found.endswith(f"-{short}")] if stages.is_dir() else []
        return stages / (min(made) if made else f"{name}-{short}")

    def newest(self, name: str) -> dict[str, Any] | None:
        """The manifest of the most recent result of any stage called `name`."""
        manifests = [read_json(path) for path in (self.root / "stages").glob(f"{name}-*/manifest.json")]
        named = [manifest for manifest in manifests if manifest and manifest["stage"] == name]
        return max(named, key=lambda manifest: manifest["finished"], default=None)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage, or None."""
    return read_json(folder / "manifest.json")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's content, or None where there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is never seen half written."""
    write_atomically(path, json.dumps(content, indent=1).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step, through a file that no other process writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    publish(partial, path)
    os.replace(partial, path)


def digest(content: bytes) -> str:
    """Short content hash."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
