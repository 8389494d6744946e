"""What is done where a store's file system fails: a full disk is told in one sentence, an absence is waited out.

A store is told by the marker in its root. Where that is gone (an unmounted disk leaves an empty folder), nothing is written: it
would land on another disk.
"""

import errno
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from imagesets.errors import WrongInput

MARKER = "wsss-store.json"
PATIENCE = 60.0  # seconds that one absence is waited out for
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before trying again, by how often a stage has had to already
LOOK = 8.0  # seconds between two looks for an absent store, at most
PROBE = 64 << 10  # bytes: a block more than any file system has to spare for a full file
FULL = {errno.ENOSPC, errno.EDQUOT}
PASSING = {errno.ESTALE, errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH}

Result = TypeVar("Result")


class StoreGone(WrongInput):
    """A store's absence was waited out in vain."""


class StoreAbsent(OSError):
    """The store is not where it was, or its file system fails; that may pass."""


def require(root: Path) -> None:
    """Raise StoreAbsent unless the store at `root` is there."""
    try:
        (root / MARKER).stat()
    except OSError as error:
        raise StoreAbsent(f"the store {root} is not there on {socket.gethostname()} ({error.strerror})") from error


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Raise WrongInput where the block cannot write `path` because the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _no_room(path) from error
        raise


def blame(error: Exception, root: Path) -> None:
    """Raise in place of `error` what the store at `root` is to blame for; returns where that is well.

    Libraries tell a full disk or a missing folder in many ways, so the store is looked at and tried instead. Raises StoreAbsent
    where the failure may pass, WrongInput where the disk is full.
    """
    try:
        require(root)
        if isinstance(error, OSError) and error.errno in PASSING and _may_be_below(root, error.filename):
            raise StoreAbsent(f"the store {root} fails on {socket.gethostname()} ({error.strerror})")
        if not isinstance(error, WrongInput):
            _probe(root)
    except (StoreAbsent, WrongInput) as cause:
        raise cause from error


def patiently(
    root: Path, do: Callable[[], Result], say: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> Result:
    """Call `do`; where it raises StoreAbsent, wait until the store is back and call it again.

    `say` is told; `pause(seconds)` may raise what is to end the wait. Raises StoreGone after PATIENCE seconds of one absence,
    and where `do` goes on failing though the store is there: another node does not see it.
    """
    told = ""
    for seconds in PAUSES:
        try:
            return do()
        except StoreAbsent as absence:
            if not _there(root):
                _wait(root, absence, seconds, say, pause)
                continue
            if str(absence) != told:  # once, however often it is tried
                told = str(absence)
                say(f"{told}; the launch sees it, and tries again for {sum(PAUSES):.0f} s")
            pause(seconds)
    try:
        return do()
    except StoreAbsent as absence:
        raise StoreGone(
            f"{absence}, for the {len(PAUSES) + 1}th time in one stage; `wsss-orch doctor --address` tells what each node sees; "
            "the same command continues"
        ) from absence


def _there(root: Path) -> bool:
    try:
        require(root)
        return True
    except StoreAbsent:
        return False


def _wait(root: Path, absence: StoreAbsent, seconds: float, say: Callable[[str], None], pause: Callable[[float], None]) -> None:
    say(f"{absence}; waiting up to {PATIENCE:.0f} s for it")
    began = time.monotonic()
    while True:
        pause(seconds)
        waited = time.monotonic() - began
        try:
            require(root)
        except StoreAbsent as still:
            if waited > PATIENCE:
                raise StoreGone(
                    f"{still}, and has not been for {waited:.0f} s; nothing is written in its place: once it is back, the same "
                    "command continues"
                ) from still
        else:
            return say(f"the store {root} is there after {waited:.0f} s; going on")
        seconds = min(2 * seconds, LOOK)


def _may_be_below(root: Path, name: object) -> bool:
    """Whether a file that failed may be the store's; images and weights have disks of their own."""
    return not isinstance(name, str | os.PathLike) or Path(name).is_relative_to(root)


def _probe(root: Path) -> None:
    path = root / f".probe.{secrets.token_hex(8)}"
    try:
        with room_for(root), path.open("wb") as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreAbsent(f"the store {root} cannot be written on {socket.gethostname()} ({error.strerror})") from error
    finally:
        with suppress(OSError):
            path.unlink()


def _no_room(path: Path) -> WrongInput:
    disk = shutil.disk_usage(path if path.is_dir() else path.parent)
    left = f"{disk.free / 2**20:.1f} MB of {disk.total / 2**20:.0f} MB free"
    return WrongInput(
        f"the disk is full: {path} could not be written with {left}; make room (`wsss-orch clean` lists what of a store no run "
        "needs), then the same command continues"
    )
