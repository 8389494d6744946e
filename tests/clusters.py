"""Ray clusters on loopback for the slow tests. Each has its own ports, folders and token, and ends with its test.

`ray stop` is never called: it would end every Ray of this account. A node is what `ray start --block` started, and its end is
that of its processes.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.mlflow_servers import free_port

PROJECT = Path(__file__).parent.parent
STARTUP = 400  # seconds
BUSY = {  # Ray's own patience ends sooner on a machine that is busy with other things
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_health_check_failure_threshold": "60",
}


@dataclass(frozen=True)
class Cluster:
    """A running head: the addresses of its dashboard and its GCS, and the environment to reach it."""

    url: str
    address: str
    environment: dict[str, str]
    folder: Path

    def run(self, *words: object, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """Run `wsss-orch` with some words and the cluster's token."""
        return subprocess.run(program(words), env=self.environment, capture_output=True, text=True, timeout=seconds)


def program(words: Sequence[object]) -> list[str]:
    """The command line of `wsss-orch` from this checkout, with some words."""
    return [sys.executable, "-P", "-m", "orchestrator", *map(str, words)]


@contextlib.contextmanager
def cluster(cpus: int = 2) -> Iterator[Cluster]:
    """A head with a dashboard and token authentication."""
    folder = Path(tempfile.mkdtemp(prefix="wsss-ray-", dir="/tmp"))  # short: Ray puts sockets below it
    port, dashboard = free_port(), free_port()
    (folder / "token").write_text(secrets.token_hex(32))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        **BUSY,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where a job finds its Python
        "PYTHONPATH": str(PROJECT),
        "COLUMNS": "200",
    }
    words = ["--head", f"--port={port}", "--include-dashboard=true", f"--dashboard-port={dashboard}", f"--num-cpus={cpus}"]
    made = Cluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", environment, folder)
    try:
        with node(made, *words, "--dashboard-host=127.0.0.1", f"--temp-dir={folder / 'ray'}") as (head, log):
            deadline = time.monotonic() + STARTUP
            while not _answers(made):
                assert head.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def node(
    of: Cluster, *words: str, environment: dict[str, str] | None = None, wrapped: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """One node, started by `ray start` with these words (inside the command `wrapped`, if given): its process and its log."""
    log = of.folder / f"node-{secrets.token_hex(3)}.log"
    line = [
        *wrapped,
        sys.executable,
        "-P",
        PROJECT / "tests" / "patient_ray.py",
        "start",
        "--block",
        "--object-store-memory=100000000",
        *words,
    ]
    with log.open("wb") as file:
        started = subprocess.Popen(
            [*map(str, line), "--node-ip-address=127.0.0.1", f"--dashboard-agent-listen-port={free_port()}"],  # not another Ray's
            env={**of.environment, **(environment or {})},
            cwd=of.folder,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield started, log
    finally:
        _end(started)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process, its descendants and its session: some workers of Ray are not descendants."""
    session = [found for found in psutil.process_iter() if _session(found.pid) == process.pid]
    with contextlib.suppress(psutil.NoSuchProcess):
        return list({*session, psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)})
    return session


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    left = family(process)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    for one in {*left, *family(process)}:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def _answers(made: Cluster) -> bool:
    """Whether the dashboard answers and a node takes jobs."""
    token = (made.folder / "token").read_text()
    asked = urllib.request.Request(f"{made.url}/api/v0/nodes", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as page:
            return b"ALIVE" in page.read()
    except (urllib.error.URLError, OSError):
        return False
