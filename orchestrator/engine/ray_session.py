"""A connection to Ray: a private one, or a running cluster that is asked first whether it is there."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from imagesets.errors import WrongInput

DEFAULTS = {  # settings of Ray, unless the user's shell has others
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of shards in flight when a launch is stopped: their lease is gone
    "RAY_task_oom_retries": "3",  # of a task that is killed for memory: for ever by default
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # by default a finished training is noticed after 2 s
}
CONNECT = 10  # seconds for the head to take a connection
OBJECT_STORE = 256 << 20  # bytes of a private Ray: only jobs and figures pass through it


@contextmanager
def connected(address: str = "", cpus: int = 1) -> Iterator[None]:
    """A driver of the cluster at `address` while the block lasts, or of a private Ray with at least so many CPUs.

    Raises WrongInput where no cluster answers, or refuses.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        _require_reachable(address)
    else:
        room = max(os.cpu_count() or 1, cpus)
        options |= {"include_dashboard": False, "num_cpus": room, "object_store_memory": OBJECT_STORE}
    # workers import from the folder in which a driver begins: from an empty one, as a folder of the user's that is called
    # metrics/ must not be imported; not from a `working_dir` of Ray's, which a worker can find deleted when another has ended
    with tempfile.TemporaryDirectory(prefix="wsss-orch-") as empty:
        try:
            with chdir(empty):
                ray.init(address=address or "local", **options)
        except AuthenticationError as error:
            raise WrongInput(f"the cluster at {address} and this shell differ in RAY_AUTH_MODE or the token") from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            if not address:
                raise
            raise WrongInput(f"--address {address}: {str(error).strip().splitlines()[0]}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _require_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    if "://" in address:
        raise WrongInput(
            f"--address {address} is a cluster seen from outside: this command runs on one of its nodes, with --address auto; "
            f"`wsss-orch submit --address {address} ...` runs it there"
        )
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise WrongInput(f"--address {address} is neither auto nor host:port, such as head.example.org:6379")
    try:
        with closing(socket.create_connection((host, int(port)), CONNECT)):
            return
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise WrongInput(f"nothing answers at {address} ({why}); a Ray head listens on port 6379") from error
