"""Servers on loopback for the tests of tracking: MLflow, and PostgreSQL if it is installed. Each ends with its test."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

STARTUP = 180  # seconds that a server may take on a machine that is busy with other things


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as tried:
        return int(tried.getsockname()[1])


def answers(address: str) -> bool:
    """Whether `address` can be fetched."""
    try:
        with urllib.request.urlopen(address, timeout=5) as page:
            return bool(page.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def process(
    words: Sequence[object], log: Path, ending: signal.Signals | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own. At the end it gets the signal `ending`, if any, and its session is killed."""
    with log.open("ab") as file:
        started = subprocess.Popen(
            [str(word) for word in words], stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )
    try:
        yield started
    finally:
        if ending is not None:
            started.send_signal(ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def wait_until(ready: Any, started: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `ready()`; the process must not end before that."""
    deadline = time.monotonic() + STARTUP
    while not ready():
        assert started.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@contextlib.contextmanager
def mlflow_server(backend: str, folder: Path, port: int) -> Iterator[str]:
    """The address of an MLflow server that keeps its runs in the database `backend` and their artifacts in `folder`."""
    words = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", backend, "--workers", 1]
    words += ["--artifacts-destination", folder / "artifacts", "--host", "127.0.0.1", "--port", port]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address, log = f"http://127.0.0.1:{port}", folder / "mlflow.log"
    with process(words, log, env=environment, cwd=folder) as server:
        wait_until(lambda: answers(f"{address}/health"), server, log)
        yield address


@contextlib.contextmanager
def postgresql(log: Path) -> Iterator[str]:
    """The URI of a fresh PostgreSQL, which root runs as the account postgres; skips the test if that is not possible."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)  # where Debian has them
    initdb = shutil.which("initdb") or programs
    if initdb is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    driver = next((name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)), None)
    if driver is None:
        pytest.skip("neither psycopg nor psycopg2, the drivers of PostgreSQL, is installed")
    account: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="wsss-postgresql-"))  # pytest's own folders are closed to other accounts
    try:
        if account:
            shutil.chown(folder, "postgres", "postgres")
        data, port, bin = folder / "data", free_port(), Path(initdb).resolve().parent
        made = [initdb, "-D", data, "-U", "wsss", "-A", "trust", "--no-sync"]
        subprocess.run(made, cwd=folder, check=True, capture_output=True, timeout=STARTUP, **account)
        words = [bin / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", folder, "-F"]
        with process(words, log, signal.SIGQUIT, cwd=folder, **account) as server:  # killed, it would leave shared memory
            ready = [bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(lambda: subprocess.run(ready).returncode == 0, server, log)
            yield f"postgresql+{driver}://wsss@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder)
