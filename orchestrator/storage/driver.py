"""One launch at a time writes to a store on S3. A launch raises a flag in the bucket, then looks for other flags.

A list of S3 has every object that was written before, so of two launches that begin at once at least one sees the other. A launch
touches its flag every few seconds. It counts as dead if its flag has not moved for a minute by S3's clock, or if its process on
this host is gone; then its flag is taken down. A launch without its flag stops before its next write.
"""

import contextlib
import json
import logging
import random
import secrets
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.storage.beside import beside
from orchestrator.storage.bucket import FLAGS, LOCK, Bucket, flag, noted_address
from orchestrator.storage.host import SILENCE, holder_of, host_name, is_dead, locked
from orchestrator.storage.lease import try_lease
from orchestrator.storage.place import place_of
from orchestrator.storage.remote import PATIENCE, SHORT, Remote, unusable

HEARTBEAT = 15.0  # seconds between touches; a touch is a request
TRIES = 3  # if two launches begin at the same moment, both take their flags down and try again
STEP_BACK = 2.0  # seconds before that at most


@contextlib.contextmanager
def driving(root: Path) -> Iterator[None]:
    """Be the launch that writes to the store at `root` during the block; a local store has leases instead.

    Raises WrongInput, which names the other launch, if a living one writes to it.
    """
    bucket = place_of(root)
    if not isinstance(bucket, Bucket):
        if noted_address(root):  # what is written there would be lost
            raise WrongInput(f"{root} is the mirror of a store on S3, reached by a path that --store does not give")
        yield
        return
    with contextlib.ExitStack() as stack:
        with locked(root / LOCK):
            if stack.enter_context(try_lease(root)) is None:
                raise WrongInput(_refusal(bucket, "another process of this machine"))
            try:
                token = _raise_flag(bucket)
            except OSError as error:
                raise unusable(bucket.remote.address, "written to", error) from error
            bucket.refresh()  # what other machines have made
        bucket.driver, bucket.remote.patience = token, PATIENCE
        try:
            with beside(partial(_beat, Remote(bucket.remote.address, patience=0), token), HEARTBEAT):
                yield
        finally:
            bucket.driver, bucket.remote.patience = "", SHORT
            with contextlib.suppress(OSError):  # a flag that stays counts as dead soon
                bucket.remote.delete(flag(token))


def _raise_flag(bucket: Bucket) -> str:
    """Raise this process's flag if no other is up; returns its token."""
    token = secrets.token_hex(8)
    for left in reversed(range(TRIES)):
        bucket.remote.put(holder_of(token).encode(), flag(token))
        other = _other(bucket, token)
        if other is None:
            return token
        bucket.remote.delete(flag(token))
        if not left:
            raise WrongInput(_refusal(bucket, other))
        time.sleep(random.uniform(0, STEP_BACK))
    raise AssertionError("unreachable: the last try returns or raises")


def _other(bucket: Bucket, token: str) -> str | None:
    """The other launch that has a flag up, None if there is none; flags of dead launches are taken down."""
    infos = {info.base_name.removesuffix(".json"): info for info in bucket.remote.listed(FLAGS) if info.is_file}
    now = infos[token].mtime_ns  # the server's clock
    for other in infos.keys() - {token}:
        try:
            holder = json.loads(bucket.remote.get(flag(other)))
        except FileNotFoundError:
            continue  # just taken down
        if not is_dead(holder, (now - infos[other].mtime_ns) / 1e9):
            return f"a launch on {host_name(holder['host'])}, process {holder['pid']}"
        logging.info("taking over from %s, which is dead", holder)
        bucket.remote.delete(flag(other))
    return None


def _refusal(bucket: Bucket, other: str) -> str:
    return (
        f"the store {bucket.remote.address.uri} is in use by {other}; one launch at a time writes to a store on S3: wait for its "
        f"end, or {SILENCE:.0f} s if it is dead"
    )


def _beat(remote: Remote, token: str) -> bool:
    """Touch the flag, but do not raise it again if it was taken down."""
    try:
        if remote.about(flag(token)) is None:
            return False
        remote.put(holder_of(token).encode(), flag(token))
    except OSError as error:
        logging.warning("no sign of life could be given: %s", error)
    return True
