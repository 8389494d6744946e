"""This machine, and whether a process that holds a lease or a flag is alive.

A process number means another process in each container, also if containers share a name.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the machine
NUMBERS = Path("/proc/self/ns/pid")  # the namespace of process numbers, one for each container
SILENCE = 60.0  # seconds without a touch, after which the holder of a lease or flag counts as dead


def host() -> str:
    """The host's name, start and namespace of process numbers: equal for two processes only if numbers mean the same to both."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # not Linux: the name alone
        parts += [BOOT.read_text(encoding="ascii")[:8], "".join(filter(str.isdigit, os.readlink(NUMBERS)))]
    return "_".join(parts)


def host_name(found: str) -> str:
    """The name for people, from what `host` returned on any machine."""
    return found.partition("_")[0]  # host names have no underscore


def alive(pid: int) -> bool:
    """Whether a process of this host lives."""
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False
    except PermissionError:
        return True


def holder_of(token: str) -> str:
    """The content of this process's lease, or of its flag on S3."""
    return json.dumps({"host": host(), "pid": os.getpid(), "token": token})


def is_dead(holder: Mapping[str, Any], silent: float) -> bool:
    """Whether a holder counts as dead, whose lease or flag was not touched for `silent` seconds; {} is an unknown holder."""
    return silent > SILENCE or (holder.get("host") == host() and not alive(holder["pid"]))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` during the block; other processes of this host wait for it."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # released when the file is closed
        yield
