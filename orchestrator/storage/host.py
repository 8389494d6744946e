"""Which machine this is, as far as process numbers go: in containers of one name a number means another process in each."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")  # of the running kernel: another one after each start
NUMBERS = Path("/proc/self/ns/pid")  # the namespace that process numbers of this process are in


def host() -> str:
    """Name, start and process numbers of this host; equal in two processes only where their numbers mean the same."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # not Linux: the name has to do
        parts += [BOOT.read_text(encoding="ascii")[:8], "".join(filter(str.isdigit, os.readlink(NUMBERS)))]
    return "_".join(parts)


def host_name(found: str) -> str:
    """The name for people in what `host` gave, on this machine or another."""
    return found.partition("_")[0]  # which a host name has none of


def alive(pid: int) -> bool:
    """Whether a process of this host lives."""
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False
    except PermissionError:
        return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that is the file `path` while the block runs; no other process of this host does."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # released when the file is closed
        yield
