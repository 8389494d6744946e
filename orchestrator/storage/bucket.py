"""A store in a bucket as launches use it: who may write to it, and where this machine's mirror of it lies."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.storage.host import locked
from orchestrator.storage.in_step import in_step
from orchestrator.storage.lease import DriverLost, LeaseLost, held
from orchestrator.storage.mirror import STAGE_NOTES, Mirror, write_here
from orchestrator.storage.place import buckets
from orchestrator.storage.remote import PATIENCE, SHORT, Address, Remote, refuse_unusable
from orchestrator.storage.store import read_json
from orchestrator.storage.trouble import MARKER

VARIABLE = "WSSS_ORCH_MIRRORS"  # the folder in which mirrors lie, on each machine its own
NOTE, LOCK = "remote.json", ".lock"
FLAGS = "drivers"  # of the launches that write
ATTEMPT = "attempt"  # in a stage's remote folder: the token of the attempt whose writes count


class Bucket(Mirror):
    """A remote place that launches write to; `driver` is the token of the one that does, in its own processes."""

    driver = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_worker, (self.remote.address, self.root, self.driver)

    def settle(self, folder: Path, digest: str = "") -> None:
        """Empty what the mirror has of another result than the one with this digest, and bring the two notes.

        Without both notes, the next command here would take the folder for another result's.
        """
        with locked(self.root / LOCK):
            if digest and (read_json(folder / "manifest.json") or {}).get("digest") != digest:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            for name in STAGE_NOTES if digest else STAGE_NOTES[1:]:
                self.file(folder / name)

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
    """The remote name of a launch's flag."""
    return f"{FLAGS}/{token}.json"


def attach(root: Path, address: Address, patience: float) -> Bucket:
    """Make `root` the mirror of an address in this process."""
    if root not in buckets:
        root.mkdir(parents=True, exist_ok=True)
        if noted_address(root) != address:
            write_here(root / NOTE, json.dumps(asdict(address)).encode())
        (root / MARKER).touch()  # a mirror is made anew where it is gone: it never was the store itself
        buckets[root] = Bucket(root, Remote(address, patience))
    return buckets[root]


def open_bucket(root: Path, address: Address) -> Path:
    """Attach for a command: WrongInput if the place cannot be used; what is new there is taken over. The mirror's root."""
    bucket = attach(root, address, SHORT)
    refuse_unusable(bucket.remote)
    with locked(root / LOCK):
        if not held(root):  # else a launch of this machine keeps it up to date, and must not be disturbed
            bucket.refresh()
    return root


def _of_worker(address: Address, root: Path, driver: str) -> Bucket:
    """The bucket of a launch with the mirror at `root`, as a worker on any machine reaches it."""
    bucket = attach(root if root in buckets else mirror_folder(address), address, PATIENCE)
    bucket.driver = driver
    return bucket


def noted_address(root: Path) -> Address | None:
    """The address whose mirror a folder is, None for any other folder."""
    note = read_json(root / NOTE)
    return Address(**note) if note else None


def mirror_folder(address: Address) -> Path:
    """Where on this machine the mirror of an address lies."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parent = os.environ.get(VARIABLE) or Path(cache) / "wsss-orch"
    place = f"{urlsplit(address.endpoint).netloc or 's3'}/{address.path}"
    told = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()  # two places may differ in what a file name cannot hold
    return Path(parent).expanduser().resolve() / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', place)}-{told}"
