"""The folder that a machine has of a store in a bucket: where it lies, whose it is, and one process at a time that changes it."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.storage.remote import Address

VARIABLE = "WSSS_ORCH_MIRRORS"  # the folder in which mirrors lie, on each machine its own
NOTE = "remote.json"


def noted_address(root: Path) -> Address | None:
    """The address whose mirror a folder is, None for any other folder."""
    note = content_of(root / NOTE)
    return Address(**json.loads(note)) if note else None


def mirror_folder(address: Address) -> Path:
    """Where on this machine the mirror of an address lies."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parent = os.environ.get(VARIABLE) or Path(cache) / "wsss-orch"
    place = f"{urlsplit(address.endpoint).netloc or 's3'}/{address.path}"
    told = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()  # two places may differ in what a file name cannot hold
    return Path(parent).expanduser().resolve() / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', place)}-{told}"


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Nobody else on this machine changes what a mirror takes from its remote while the block runs."""
    with (root / ".lock").open("w", encoding="utf-8") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # released when the file is closed
        yield


def same(path: Path, info: Any) -> bool:
    """Whether a file is here as it was brought when the remote's was as `info` says."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns)


def write_note(root: Path, address: Address) -> None:
    """Note in a folder that it is the mirror of an address."""
    path, content = root / NOTE, json.dumps(asdict(address)).encode()
    if content_of(path) != content:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        partial.write_bytes(content)
        os.replace(partial, path)


def content_of(path: Path) -> bytes | None:
    """A file's content, None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
