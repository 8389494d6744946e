"""What happens if the file system of a store fails: a full disk is one sentence, an absent store is waited for.

A store is recognised by the marker in its root. Without the marker nothing is written: an unmounted disk leaves an empty folder,
and what is written there lands on another disk.
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
PATIENCE = 60.0  # seconds to wait for an absent store
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before the first, second ... new try of a stage
LOOK = 8.0  # seconds between two looks for an absent store at most
PROBE = 64 << 10  # bytes of a test write: more than a full file system has left in a block
FULL = {errno.ENOSPC, errno.EDQUOT}
PASSING = {errno.ESTALE, errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH}

Result = TypeVar("Result")


class StoreGone(WrongInput):
    """The store was waited for in vain."""


class StoreAbsent(OSError):
    """The store is not there, or its file system fails; that may pass."""


def require(root: Path) -> None:
    """Raise StoreAbsent unless the store at `root` is there."""
    try:
        (root / MARKER).stat()
    except OSError as error:
        raise StoreAbsent(f"the store {root} is not there on {socket.gethostname()} ({error.strerror})") from error


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Raise WrongInput if the block cannot write `path` because the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        disk = shutil.disk_usage(path if path.is_dir() else path.parent)
        left = f"{disk.free / 2**20:.1f} MB of {disk.total / 2**20:.0f} MB free"
        raise WrongInput(
            f"the disk is full: {path} could not be written with {left}; make room (`wsss-orch clean` lists what no run needs), "
            "then the same command continues"
        ) from error


def blame(error: Exception, root: Path) -> None:
    """Raise an error about the store at `root` if the store caused `error`; return if the store is well.

    Libraries report a full disk or a missing folder in many ways, so this tests the store instead of reading their messages.
    Raises StoreAbsent if the failure may pass, WrongInput if the disk is full.
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
    """Call `do`; if it raises StoreAbsent, wait until the store is there and call it again.

    `say` gets lines for the person; `pause(seconds)` may raise to end the wait. Raises StoreGone if one absence lasts longer than
    PATIENCE, or if `do` keeps failing although the store is there: then another node does not see it.
    """
    told = ""
    for seconds in PAUSES:
        try:
            return do()
        except StoreAbsent as absence:
            if _absence(root):
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


def _absence(root: Path) -> StoreAbsent | None:
    """The error of a store that is not there, None if it is."""
    try:
        require(root)
    except StoreAbsent as absence:
        return absence
    return None


def _wait(root: Path, absence: StoreAbsent, seconds: float, say: Callable[[str], None], pause: Callable[[float], None]) -> None:
    say(f"{absence}; waiting up to {PATIENCE:.0f} s for it")
    began, waited = time.monotonic(), 0.0
    while waited <= PATIENCE:
        pause(seconds)
        waited = time.monotonic() - began
        if not (still := _absence(root)):
            return say(f"the store {root} is there after {waited:.0f} s; going on")
        seconds = min(2 * seconds, LOOK)
    raise StoreGone(
        f"{still}, and has not been for {waited:.0f} s; nothing is written in its place: once it is back, the same command "
        "continues"
    ) from still


def _may_be_below(root: Path, name: object) -> bool:
    """Whether a file that failed may be in the store; images and weights may be on other disks."""
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
