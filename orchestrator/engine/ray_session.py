"""A connection to Ray: a private one, or a running cluster."""

import fcntl
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import ray
from ray._private import services, worker
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # Cython code without types
from ray.exceptions import AuthenticationError

from imagesets.errors import WrongInput
from orchestrator.cores import cores
from orchestrator.engine.address import token_refused

DEFAULTS = {  # environment variables of Ray, unless the user's shell has set them
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of shards that run when a launch is stopped
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # by default a finished training is noticed after 2 s
}
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
REPORTS = logging.getLogger("raylet")  # gets the messages of Ray's servers
QUESTION = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # the request of `ray health-check`
PATIENCE = 10  # seconds for an answer
OBJECT_STORE = 256 << 20  # bytes; only jobs and figures pass through the object store of a private Ray
PRIVATE = {**QUIET, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
PREFIX, LOCK = "ray-", "launch.lock"  # of the folder for a session, and a file in it that its launch holds locked
LONGEST = 28  # bytes of the path of a folder for Ray's session; the paths of its sockets are 79 longer and have at most 107


@contextmanager
def connected(address: str, cpus: int = 1) -> Iterator[None]:
    """Connect to the cluster at `address` during the block; "" starts a private Ray with at least `cpus` CPUs.

    Raises WrongInput if the cluster refuses.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if token := os.environ.get("RAY_AUTH_TOKEN_PATH"):  # Ray reads it below, in another working directory
        os.environ["RAY_AUTH_TOKEN_PATH"] = os.path.abspath(os.path.expanduser(token))
    # workers import from the driver's working directory; from one without modules they cannot import a user's folder metrics/
    # (Ray's own `working_dir` can be deleted for a worker when another worker has ended)
    with _session(tempfile.gettempdir() if address else _folder()) as folder:
        with chdir(folder):
            if address:
                _join(address)
            else:
                _start(folder, cpus)
        _tell_the_log()
        try:
            yield
        finally:
            ray.shutdown()


def _join(address: str) -> None:
    """Connect to a running cluster. Raises WrongInput if it refuses."""
    refuse_wrong_token(address)
    try:
        ray.init(address=address, **QUIET)
    except AuthenticationError as error:
        raise WrongInput(f"--address {address}: the cluster and this shell differ in RAY_AUTH_MODE or the token") from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise WrongInput(f"--address {address}: {' '.join(str(error).partition('Traceback')[0].split())}") from error


def _start(folder: str, cpus: int) -> None:
    """Start a private Ray with the files of its session in `folder`: /tmp/ray may be another user's, and keeps all sessions."""
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process that asks whether a cloud takes nodes back
    _ensure_token()
    ray.init("local", num_cpus=max(cores(), cpus), _temp_dir=folder, **PRIVATE)
    # the process that asks an autoscaler for nodes, 50 MB
    worker._global_node.kill_monitor(check_alive=False)  # type: ignore[attr-defined]  # it is there after init


@contextmanager
def _session(parent: str) -> Iterator[str]:
    """A folder in `parent` for the session, which ends with the block; those of killed launches of this host are removed.

    On a file system that several hosts share, the locks of each may be its own.
    """
    for left in Path(parent).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), left.open(encoding="utf-8") as file:  # of another user, or of a launch that lives
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.read() == socket.gethostname():
                shutil.rmtree(left.parent, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True) as folder,
        (Path(folder) / LOCK).open("w", encoding="utf-8") as file,
    ):
        with suppress(OSError):  # a file system without locks keeps the folders of killed launches
            fcntl.flock(file, fcntl.LOCK_EX)
            print(socket.gethostname(), end="", file=file, flush=True)  # an empty file is one whose launch begins
        yield folder


def _folder() -> str:
    """Where temporary files lie; /tmp if Ray cannot name its sockets there. Raises WrongInput if RAY_TMPDIR has a fault."""
    asked = os.environ.get("RAY_TMPDIR")
    folder = asked or tempfile.gettempdir()
    if asked and not os.access(asked, os.W_OK):
        raise WrongInput(f"RAY_TMPDIR={asked} must be a folder that can be written to")
    if len(os.fsencode(folder)) <= LONGEST:
        return folder
    if asked:
        raise WrongInput(f"RAY_TMPDIR={asked} is too long for the paths of Ray's sockets; {LONGEST} bytes are the most")
    return "/tmp"


def _ensure_token() -> None:
    """Have a token of a private Ray. Ray would write it to the home folder, which a container may lack or protect."""
    tokens = AuthenticationTokenLoader.instance()
    if not tokens.has_token(ignore_auth_mode=True):
        os.environ["RAY_AUTH_TOKEN"] = uuid4().hex
        tokens.reset_cache()


def _tell_the_log() -> None:
    """Send Ray's warnings and the messages of its servers to the log instead of the terminal."""
    ours = logging.getLogger("ray")
    ours.handlers.clear()
    ours.propagate = True
    worker.print_to_stdstream = lambda data, *_, **__: REPORTS.info("%s", "\n".join(data["lines"]))


def refuse_wrong_token(address: str) -> None:
    """Raise WrongInput if the head at `address` (auto or host:port) refuses the token. Ray handles other errors.

    Ray itself would try a wrong token for twenty seconds and print raw lines.
    """
    head = services.canonicalize_bootstrap_address(address) if address == "auto" else address
    if head is None:
        return
    try:
        headers = get_auth_headers_if_auth_enabled({})
    except AuthenticationError as error:  # a token is wanted and cannot be read
        raise WrongInput(f"--address {address}: {error.message}") from error
    with grpc.insecure_channel(head, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(QUESTION)(b"", timeout=PATIENCE, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise WrongInput(f"--address {address}: {token_refused(bool(headers))}") from error
