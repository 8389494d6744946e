"""A Ray cluster on one machine whose nodes have a network, process numbers, a /tmp and a host name of their own.

A node's cable can be pulled and put back, which simulated nodes do not have. It takes root and iproute2. All nodes see the
folder `shared` under one path, and this machine does too.
"""

import contextlib
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.clusters import program

PROJECT = Path(__file__).parent.parent
OBJECT_STORE = 80 << 20  # bytes for each node: Ray asks for no less than 75 MB
PORT = 6379
SETUP = """
mount --make-rprivate / && mount -t proc proc /proc && hostname {host} && mount -t tmpfs tmpfs /dev/shm
mount --bind {hosts} /etc/hosts && mount --rbind {tmp} /tmp && exec sleep infinity
"""


def skip_where_impossible() -> None:
    """Skip the test, with the reason, if this machine cannot make such nodes."""
    if any(path.is_relative_to("/tmp") for path in (PROJECT, Path(sys.prefix), Path(sys.base_prefix))):
        pytest.skip("a node has a /tmp of its own, and would not see this checkout or its environment there")
    for words in (["ip", "link", "show", "lo"], ["unshare", "-mpuif", "--net", "true"]):
        if shutil.which(words[0]) is None or subprocess.run(words, capture_output=True).returncode:
            pytest.skip(f"nodes are network namespaces, and `{shlex.join(words)}` does not work here: it takes root and iproute2")


class Machine:
    """One node: its namespaces live as long as its first process."""

    def __init__(self, cluster: "Machines", name: str, address: str):
        self.cluster, self.name, self.address = cluster, name, address
        self.net = f"{cluster.prefix}{name}"
        _ip("netns", "add", self.net)
        _ip("-n", cluster.switch, "link", "add", self.plug, "type", "veth", "peer", "name", "e0", "netns", self.net)
        _ip("-n", cluster.switch, "link", "set", self.plug, "master", "br0", "up")
        _ip("-n", self.net, "link", "set", "lo", "up")
        _ip("-n", self.net, "addr", "add", f"{address}/24", "dev", "e0")
        _ip("-n", self.net, "link", "set", "e0", "up")
        self.begin()

    @property
    def plug(self) -> str:
        """The name of its cable's end at the switch."""
        return f"p{self.name}"

    def begin(self) -> None:
        """Start its first process, with an empty /tmp."""
        tmp = self.cluster.folder / f"{self.name}-{secrets.token_hex(2)}"
        tmp.mkdir()
        script = SETUP.format(host=f"node-{self.name}", hosts=self.cluster.hosts, tmp=tmp)
        words = ["ip", "netns", "exec", self.net, "unshare", "-mpuif", "--kill-child", "sh", "-c", script]
        self.keeper = subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL)
        self.first = _child(self.keeper.pid)

    def inside(self, words: Sequence[object]) -> list[str]:
        """The command line that runs `words` on the node."""
        bare = ["env", "-i", *(f"{name}={value}" for name, value in self.cluster.environment.items())]
        return ["nsenter", "-t", str(self.first.pid), "-m", "-p", "-n", "-u", "-i", *bare, *map(str, words)]

    def ray(self, *words: object) -> None:
        """`ray start` with some words."""
        common = [f"--node-ip-address={self.address}", f"--object-store-memory={OBJECT_STORE}", "--disable-usage-stats"]
        line = self.inside([sys.executable, "-P", PROJECT / "tests" / "patient_ray.py", "start", *common, *words])
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    def join(self) -> None:
        """Make it a node of the cluster with one CPU. Processes of an earlier time in the cluster must have ended."""
        self.ray(f"--address={self.cluster.address}", "--num-cpus=1")

    def cut(self) -> None:
        """Pull its cable."""
        _ip("-n", self.cluster.switch, "link", "set", self.plug, "down")

    def mend(self) -> None:
        """Put it back."""
        _ip("-n", self.cluster.switch, "link", "set", self.plug, "up")

    def processes(self, title: str) -> list[psutil.Process]:
        """Its processes with `title` in their command line."""
        return [process for process in self.first.children(recursive=True) if title in _title(process)]

    def lose(self) -> None:
        """Kill all its processes at once, as when the power fails; `begin` and `join` bring it back."""
        self.keeper.kill()
        self.keeper.wait()
        psutil.wait_procs([self.first], timeout=30)


class Machines:
    """A head without CPUs and workers `a`, `b`, ... of one CPU each, all on one switch."""

    def __init__(self, workers: int, folder: Path):
        self.folder, self.prefix = folder, f"w{secrets.token_hex(2)}"
        self.switch, self.shared, self.hosts = f"{self.prefix}sw", folder / "shared", folder / "hosts"
        self.shared.mkdir()
        names = ["h", *"abcdefg"[:workers]]
        addresses = {name: f"10.200.0.{number}" for number, name in enumerate(names, 1)}
        lines = ["127.0.0.1 localhost", *(f"{address} node-{name}" for name, address in addresses.items())]
        self.hosts.write_text("\n".join(lines) + "\n")
        (folder / "token").write_text(secrets.token_hex(32))
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "HOME": "/tmp",
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin",
            "PYTHONPATH": str(PROJECT),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "br0", "up")
        self.machines = {name: Machine(self, name, address) for name, address in addresses.items()}
        self.head, *self.workers = self.machines.values()

    @property
    def address(self) -> str:
        """What --address takes."""
        return f"{self.head.address}:{PORT}"

    def start(self, *words: str) -> None:
        """Start the head, with more words for `ray start`, then the workers."""
        self.head.ray("--head", f"--port={PORT}", "--num-cpus=0", *(words or ["--include-dashboard=false"]))
        with ThreadPoolExecutor() as pool:
            list(pool.map(Machine.join, self.workers))

    def launch(self, words: Sequence[object], log: Path) -> subprocess.Popen[bytes]:
        """Run `wsss-orch` with some words on the head; its output goes to `log`."""
        with log.open("wb") as file:
            return subprocess.Popen(
                self.head.inside(program(words)),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd="/",
                start_new_session=True,
            )

    def carrier(self, title: str) -> Machine | None:
        """A worker node with a process called `title`, or None."""
        return next((worker for worker in self.workers if worker.processes(title)), None)

    def end(self) -> None:
        """End all processes and networks."""
        for machine in self.machines.values():
            machine.lose()
            _ip("netns", "del", machine.net)
        _ip("netns", "del", self.switch)


@contextlib.contextmanager
def machines(workers: int) -> Iterator[Machines]:
    """A cluster, with Ray not started yet, while the block runs."""
    skip_where_impossible()
    folder = Path(tempfile.mkdtemp(prefix="wsn-", dir="/var/tmp"))  # not in /tmp, of which each node has its own
    made = Machines(workers, folder)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _child(pid: int) -> psutil.Process:
    """The first process in the namespaces, once it has set everything up."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(pid).children(recursive=True):
                if _title(process).startswith("sleep infinity"):
                    return process
        time.sleep(0.05)
    raise AssertionError("a node's first process never came up")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
