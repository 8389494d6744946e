"""One launch at a time writes to a store on S3: whoever begins raises a flag there, then looks whether another one is up.

S3 shows every object that was written before it is asked for a list, so of two that begin at once at least one sees the other.
A flag is touched every few seconds by S3's own clock; whose flag has not moved for a minute, or whose process is gone from this
host, counts as dead. A driver whose flag was taken down stops before its next write.
"""

import contextlib
import json
import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.storage.attached import mirror_of
from orchestrator.storage.host import alive, host, host_name
from orchestrator.storage.lease import SILENCE, LeaseLost, try_lease
from orchestrator.storage.mirror import Mirror, locked, noted_address
from orchestrator.storage.remote import PATIENCE, SHORT, Remote, unusable

FLAGS = "drivers"
ATTEMPT = "attempt"  # in the remote folder of a training: the token of the attempt whose writes count
HEARTBEAT = 15.0  # seconds between touches: a touch is a request
TRIES = 3  # where two begin at the same moment both step back, and try again after up to so many seconds
STEP_BACK = 2.0


class DriverLost(Exception):
    """Another launch has taken the store over."""


@contextlib.contextmanager
def driving(root: Path) -> Iterator[None]:
    """Be the one that writes to the store at `root` while the block lasts; a local store has leases, and nothing to do here.

    Raises WrongInput, naming the other one, where a living launch writes to it.
    """
    mirror = mirror_of(root)
    if mirror is None:
        if noted_address(root):  # whoever wrote here now would lose it
            raise WrongInput(f"{root} is the mirror of a store on S3, reached by a path that --store does not give")
        yield
        return
    with contextlib.ExitStack() as stack:
        with locked(root):
            if stack.enter_context(try_lease(root)) is None:
                raise WrongInput(_refusal(mirror, "another process of this machine"))
            try:
                token = _raise_flag(mirror)
            except OSError as error:
                raise unusable(mirror.remote.address, "written to", error) from error
            mirror.refresh()  # what another machine made until a moment ago
        mirror.driver, mirror.remote.patience = token, PATIENCE
        ended = threading.Event()
        heart = threading.Thread(target=_beat, args=(mirror, token, ended), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            mirror.driver, mirror.remote.patience = "", SHORT
            with contextlib.suppress(OSError):  # a flag that stays up counts as dead soon
                mirror.remote.delete(_key(token))


def check_driver(root: Path, token: str) -> None:
    """Raise DriverLost unless the launch with this token still has its flag up; for its workers, too."""
    mirror = mirror_of(root)
    if mirror is not None and token and mirror.remote.about(_key(token)) is None:
        raise DriverLost(f"another launch has taken over the store {mirror.remote.address.uri}")


def begin_attempt(folder: Path, token: str) -> None:
    """From now on only the attempt with this token may write to a training's folder; on a local store the lease says so."""
    if mirror := mirror_of(folder):
        mirror.remote.put(token.encode(), mirror.key(folder / ATTEMPT))


def check_begun(folder: Path, token: str) -> None:
    """Raise LeaseLost unless the attempt with this token is the last that has begun."""
    mirror = mirror_of(folder)
    if mirror is not None and mirror.remote.get(mirror.key(folder / ATTEMPT)) != token.encode():
        raise LeaseLost(f"another attempt has taken over {folder.name}")


def _raise_flag(mirror: Mirror) -> str:
    """Raise this process's flag where no other is up; its token."""
    token = secrets.token_hex(8)
    for left in reversed(range(TRIES)):
        _write(mirror.remote, token)
        other = _other(mirror, token)
        if other is None:
            return token
        mirror.remote.delete(_key(token))
        if not left:
            raise WrongInput(_refusal(mirror, other))
        time.sleep(random.uniform(0, STEP_BACK))
    raise AssertionError("unreachable: the last try returns or raises")


def _other(mirror: Mirror, token: str) -> str | None:
    """Who else has a flag up, None where nobody has; flags of the dead are taken down."""
    infos = {info.base_name.removesuffix(".json"): info for info in mirror.remote.listed(FLAGS) if info.is_file}
    now = infos[token].mtime_ns  # the server's clock
    for other in infos.keys() - {token}:
        try:
            holder = json.loads(mirror.remote.get(_key(other)))
        except FileNotFoundError:
            continue  # just taken down
        gone = holder["host"] == host() and not alive(holder["pid"])
        if not gone and (now - infos[other].mtime_ns) / 1e9 < SILENCE:
            return f"a launch on {host_name(holder['host'])}, process {holder['pid']}"
        logging.info("taking over from %s, which is dead", holder)
        mirror.remote.delete(_key(other))
    return None


def _refusal(mirror: Mirror, other: str) -> str:
    return (
        f"the store {mirror.remote.address.uri} is in use by {other}; one launch at a time writes to a store on S3: wait for its "
        f"end, or {SILENCE:.0f} s if it is dead"
    )


def _beat(mirror: Mirror, token: str, ended: threading.Event) -> None:
    """Touch the flag; a flag that somebody has taken down stays down."""
    remote = Remote(mirror.remote.address, patience=0)
    while not ended.wait(HEARTBEAT):
        try:
            if remote.about(_key(token)) is None:
                return
            _write(remote, token)
        except OSError as error:
            logging.warning("no sign of life could be given: %s", error)


def _write(remote: Remote, token: str) -> None:
    remote.put(json.dumps({"host": host(), "pid": os.getpid(), "token": token}).encode(), _key(token))


def _key(token: str) -> str:
    return f"{FLAGS}/{token}.json"
