"""A lease for each stage: of two launches on one store, one makes the stage and the other waits for the result.

The holder touches its lease file every few seconds. If the holder is dead (on this host) or silent (on any host), another launch
takes the lease over. The fence then refuses every write of the former holder.
"""

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from orchestrator.storage.beside import beside
from orchestrator.storage.host import holder_of, is_dead
from orchestrator.storage.trouble import require, room_for

HEARTBEAT = 5.0  # seconds between touches
ASIDE = 0.2  # seconds in which a launch that has moved a living lease aside gives it back, see `_take_over`
LEASE = "lease.json"


class LeaseLost(Exception):
    """Another launch has taken this stage over."""


class DriverLost(Exception):
    """Another launch has taken the whole store over."""


class Lease:
    """A held lease; `token` names this attempt."""

    def __init__(self, path: Path, token: str):
        self.path, self.token = path, token
        self._lock = threading.Lock()  # a heartbeat must not check the token while `renew` replaces it

    def fence(self) -> None:
        """Raise LeaseLost unless this attempt still holds the lease."""
        with self._lock:
            check_fence(self.path, self.token)

    def renew(self) -> str:
        """Hold the lease under a new token, so that workers of the attempt so far can write no more; returns the token."""
        with self._lock:
            check_fence(self.path, self.token)
            token = secrets.token_hex(8)
            partial = self.path.with_name(f".lease.{token}")
            with room_for(self.path):
                _write(partial, token)
            os.replace(partial, self.path)
            self.token = token
        return token


def check_fence(path: Path, token: str) -> None:
    """Raise LeaseLost unless the lease at `path` is held under `token`; workers get both with their job."""
    holder = read_lease(path)
    if holder is None:
        time.sleep(ASIDE)
        holder = read_lease(path)
    if holder is None:
        require(path.parents[2])  # the root of the store; if that is absent, the lease is not lost
    if holder is None or holder.get("token") != token:
        raise LeaseLost(f"another launch has taken over {path.parent.name}")


def held(folder: Path) -> bool:
    """Whether a living launch holds the lease of a folder; this writes nothing."""
    path = folder / LEASE
    return path.exists() and _dead_holder(path) is None


@contextlib.contextmanager
def try_lease(folder: Path) -> Iterator[Lease | None]:
    """Hold the lease of a stage's folder during the block; yields None if a living launch holds it."""
    folder.mkdir(exist_ok=True)  # no folder above it, see `replacing`
    path = folder / LEASE
    token = secrets.token_hex(8)
    if not _create(path, token):
        dead = _dead_holder(path)
        if dead is None or not _take_over(path, token, dead):
            yield None
            return
    lease = Lease(path, token)
    try:
        with beside(partial(_beat, lease), HEARTBEAT):
            yield lease
    finally:
        with contextlib.suppress(LeaseLost, OSError):  # in an absent store the lease stays until it counts as dead
            lease.fence()
            path.unlink(missing_ok=True)


def _create(path: Path, token: str) -> bool:
    """Create the lease file with its content in one step; returns False if there is one."""
    partial = path.with_name(f".lease.{token}")
    try:
        with room_for(path):
            _write(partial, token)
            os.link(partial, path)  # atomic, also on NFS; fails if the file exists
        return True
    except (FileExistsError, FileNotFoundError):  # not found: `clean` has just removed the folder
        return False
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, token: str) -> None:
    """Write the content of a lease, which is on the disk before its file becomes the lease: a power cut leaves no empty one."""
    with path.open("w", encoding="utf-8") as file:
        file.write(holder_of(token))
        file.flush()
        os.fsync(file.fileno())


def _take_over(path: Path, token: str, dead: dict) -> bool:
    """Move the lease of a `dead` holder aside, then create ours; of several launches that try, one succeeds."""
    aside = path.with_name(f".lease.dead.{token}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    mistaken = read_lease(aside) != dead  # another launch was faster; this is its lease, so give it back
    if mistaken:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()
    return not mistaken and _create(path, token)


def _dead_holder(path: Path) -> dict | None:
    """The holder if it is dead; None if it lives or has just released the lease."""
    holder = read_lease(path)
    try:
        return holder if holder is not None and is_dead(holder, time.time() - path.stat().st_mtime) else None
    except FileNotFoundError:
        return None


def read_lease(path: Path) -> dict | None:
    """The holder; None if there is no lease, {} if its file is damaged, so that only its age tells whether the holder lives."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:  # no JSON, no UTF-8
        return {}


def _beat(lease: Lease) -> bool:
    try:
        lease.fence()
        os.utime(lease.path)
    except LeaseLost:
        return False
    except OSError:
        pass  # a file system that fails for a moment must not cost the lease
    return True
