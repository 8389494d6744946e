"""A store in a bucket: who may write to it, and where this machine's mirror of it lies."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.storage.host import locked
from orchestrator.storage.in_step import in_step
from orchestrator.storage.lease import DriverLost, LeaseLost, held
from orchestrator.storage.mirror import Mirror, write_here
from orchestrator.storage.place import buckets
from orchestrator.storage.remote import PATIENCE, SHORT, Address, Remote, refuse_unusable
from orchestrator.storage.store import read_json
from orchestrator.storage.trouble import MARKER

VARIABLE = "WSSS_ORCH_MIRRORS"  # an environment variable: the folder of this machine's mirrors
NOTE, LOCK = "remote.json", ".lock"
FLAGS = "drivers"  # a folder in the bucket: the flags of the launches that write
ATTEMPT = "attempt"  # a file in a stage's folder in the bucket: the token of the attempt that may write


class Bucket(Mirror):
    """A bucket with its mirror; `driver` is the token of the launch that writes, "" in processes of other commands."""

    driver = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_worker, (self.remote.address, self.root, self.driver)

    def settle(self, folder: Path) -> None:
        with locked(self.root / LOCK):
            self.take_over(folder, "*.json")

    def begin(self, folder: Path, token: str) -> None:
        self.remote.put(token.encode(), self.name(folder / ATTEMPT))

    def check(self, folder: Path, token: str) -> None:
        if self.driver and self.remote.about(flag(self.driver)) is None:
            raise DriverLost(f"another launch has taken over the store {self.remote.address.uri}")
        if self.remote.get(self.name(folder / ATTEMPT)) != token.encode():
            raise LeaseLost(f"another attempt has taken over {folder.name}")

    def in_step(
        self, folder: Path, push: Sequence[str], pull: Sequence[str], fence: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        return in_step(self, folder, push, pull, fence)


def flag(token: str) -> str:
    """The name in the bucket of a launch's flag."""
    return f"{FLAGS}/{token}.json"


def attach(root: Path, address: Address, patience: float) -> Bucket:
    """Make `root` the mirror of an address in this process."""
    if root not in buckets:
        root.mkdir(parents=True, exist_ok=True)
        if noted_address(root) != address:
            write_here(root / NOTE, json.dumps(asdict(address)).encode())
        (root / MARKER).touch()  # also if the mirror was removed, because it is not the store itself
        buckets[root] = Bucket(root, Remote(address, patience))
    return buckets[root]


def open_bucket(root: Path, address: Address) -> Path:
    """Attach for a command and take over what is new; returns the mirror's root. WrongInput if the bucket cannot be used."""
    bucket = attach(root, address, SHORT)
    refuse_unusable(bucket.remote)
    with locked(root / LOCK):
        if not held(root):  # a running launch of this machine keeps the mirror up to date
            bucket.refresh()
    return root


def _of_worker(address: Address, root: Path, driver: str) -> Bucket:
    """The bucket of a launch, for a worker on any machine; `root` is the mirror on the launch's machine."""
    bucket = attach(root if root in buckets else mirror_folder(address), address, PATIENCE)
    bucket.driver = driver
    return bucket


def noted_address(root: Path) -> Address | None:
    """The address if the folder is a mirror, else None."""
    note = read_json(root / NOTE)
    return Address(**note) if note else None


def mirror_folder(address: Address) -> Path:
    """The folder of this machine's mirror of an address."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parent = os.environ.get(VARIABLE) or Path(cache) / "wsss-orch"
    place = f"{urlsplit(address.endpoint).netloc or 's3'}/{address.path}"
    told = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()  # the rest of the name can be the same for two places
    return Path(parent).expanduser().resolve() / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', place)}-{told}"
