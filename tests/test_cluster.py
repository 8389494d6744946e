"""Real Ray clusters: a launch is submitted, followed, stopped and continued; every node is visited; wrong tokens are refused."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clusters
from tests.clusters import PROJECT, Cluster
from tests.conftest import write_image_set
from tests.launching import TINY, manifests

pytestmark = pytest.mark.slow
PATIENCE = 600  # seconds; an idle machine needs a few


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.cluster() as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_set(tmp_path_factory.mktemp("set") / "images", train=8)


def words(images: Path, store: Path, *options: object) -> list[object]:
    """A launch of a small network on the images."""
    tiny = ("--recipe", TINY, "--set", "cam.epochs=1", "--track", "none", "--until", "cam-maps-score")
    return ["launch", "--method", "cam+none", "--images", f"folder:{images}", "--store", store, *tiny, *options]


def submit(cluster: Cluster, *command: object) -> str:
    """The name of a job that was submitted."""
    began = time.monotonic()
    while (done := cluster.run("submit", "--address", cluster.url, *command)).returncode and "it is starting" in done.stderr:
        assert time.monotonic() - began < 120, done.stderr
    assert done.returncode == 0, done.stderr
    assert f"wsss-orch logs -f {done.stdout.split()[0]} --address {cluster.url}" in done.stdout
    return done.stdout.split()[0]


def wait_for(condition: object, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


class Cut:
    """A relay to a server. It breaks off the first long answer and passes on everything after that."""

    def __init__(self, url: str):
        host, port = url.removeprefix("http://").split(":")
        self.there, self.breaks = (host, int(port)), 1
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            here = self.listening.accept()[0]
            there = socket.create_connection(self.there)
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        tailing = False
        while data := source.recv(65536):
            tailing |= b"101 Switching" in data
            sink.sendall(data)
            if tailing and b"cam-network" in data and self.breaks:
                self.breaks -= 1
                break
        for end in (source, sink):
            end.close()


def test_a_submitted_launch_runs_to_its_results_though_the_connection_breaks(
    cluster: Cluster, images: Path, tmp_path: Path
) -> None:
    store, cut = tmp_path / "a store", Cut(cluster.url)
    job = submit(cluster, *words(images, store, "--track", "mlflow", "--tracking-uri", "http://me:secret@127.0.0.1:1"))
    assert job.startswith("cam-none-folder-")
    followed = cluster.run("logs", job, "-f", "--address", cut.url)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert cut.breaks == 0
    assert followed.stdout == cluster.run("logs", job, "--address", cluster.url).stdout  # nothing twice, nothing missing
    assert "mIoU" in followed.stdout
    assert "were not delivered to http://me:***@127.0.0.1:1" in followed.stdout  # the URI has reached the job
    assert [json.loads(path.read_text())["method"] for path in (store / "runs").glob("*/results.json")] == ["cam+none"]
    here = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=PROJECT, capture_output=True, text=True).stdout
    assert {manifest["commit"] for manifest in manifests(store).values()} == {here.strip()}  # the code that was sent, then
    shown = cluster.run("status", "--address", cluster.url).stdout
    (row,) = (line for line in shown.splitlines() if line.split()[:1] == [job])
    assert "secret" not in shown + followed.stdout
    assert "SUCCEEDED" in row and "1 node, " in shown and " of 2 CPUs in use" in shown


def test_a_stopped_job_has_checkpointed_and_the_same_command_goes_on(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = words(images, store, "--set", "cam.epochs=400")
    job = submit(cluster, *command)
    wait_for(lambda: any((store / "stages").glob("cam-network-*/checkpoint.pt")), "no checkpoint")
    stopped = cluster.run("stop", job[:-2], "--address", cluster.url)  # the beginning of a name will do
    assert stopped.returncode == 0 and "stopped and checkpointed" in stopped.stdout, stopped.stdout + stopped.stderr
    assert f"`wsss-orch submit --address {cluster.url} launch --method cam+none " in stopped.stdout
    followed = cluster.run("logs", job, "-f", "--address", cluster.url)
    assert followed.returncode == 130 and f"continues: wsss-orch submit --address {cluster.url} launch" in followed.stdout
    assert "has already ended: STOPPED" in cluster.run("stop", job, "--address", cluster.url).stdout
    (folder,) = (store / "stages").glob("cam-network-*")
    assert (folder / "checkpoint.pt").exists() and not (folder / "manifest.json").exists()
    at = json.loads((folder / "progress.json").read_text())["step"]
    second = submit(cluster, *command)
    wait_for(lambda: json.loads((folder / "progress.json").read_text())["step"] > at, "it never went on")
    first = json.loads((folder / "progress.json").read_text())["step"]
    assert first > at
    assert cluster.run("stop", second, "--address", cluster.url).returncode == 0


def test_the_exit_code_of_logs_is_the_jobs_and_status_tells_its_error(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    job = submit(cluster, *words(tmp_path / "nowhere", tmp_path / "store"))
    followed = cluster.run("logs", job, "-f", "--address", cluster.url)
    assert followed.returncode == 2 and "error: " in followed.stdout
    (row,) = (line for line in cluster.run("status", "--address", cluster.url).stdout.splitlines() if line.split()[:1] == [job])
    assert "FAILED" in row and "error: " in row
    unknown = cluster.run("stop", f"{job[:-1]}z", "--address", cluster.url)
    assert unknown.returncode == 2 and f"did you mean '{job}'?" in unknown.stderr


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "wants a token: export RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": "0" * 64, "RAY_AUTH_TOKEN_PATH": ""}, "refuses the token"),
    ],
)
def test_a_cluster_with_a_token_refuses_whoever_has_none_or_another(
    cluster: Cluster, images: Path, tmp_path: Path, changed: dict[str, str], sentence: str
) -> None:
    stranger = Cluster(cluster.url, cluster.address, {**cluster.environment, **changed}, cluster.folder)
    done = stranger.run("submit", "--address", cluster.url, *words(images, tmp_path / "store"))
    assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.partition("next: ")[0].splitlines()) == 1
    began = time.monotonic()
    driver = stranger.run(*words(images, tmp_path / "store", "--address", cluster.address))
    assert driver.returncode == 2 and "token" in driver.stderr, driver.stderr
    assert len(driver.stderr.split("error: ")) == 2 and not driver.stderr.split("error: ")[0].strip()
    assert time.monotonic() - began < PATIENCE / 10


def test_doctor_visits_every_node(cluster: Cluster, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("a second view of the file system needs the right to make one")
    store, other = tmp_path / "store", tmp_path / "other"
    store.mkdir()
    doctor = ("doctor", "--address", cluster.address, "--store", store)
    whole = cluster.run(*doctor)
    assert whole.returncode == 0 and "ready, nodes: 1" in whole.stdout, whole.stdout + whole.stderr
    shutil.copytree(PROJECT, other, ignore=lambda _, names: {name for name in names if name.startswith(".")})
    (other / "recipes" / "cam.yaml").write_text((other / "recipes" / "cam.yaml").read_text() + "\n")
    # a mount of its own: this node has another folder under the store's path
    wrapped = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {store} && exec "$@"', "sh"]
    start = (f"--address={cluster.address}", "--num-cpus=1")
    with clusters.node(cluster, *start, environment={"PYTHONPATH": str(other)}, wrapped=wrapped) as (started, _):
        wait_for(lambda: "2 nodes" in cluster.run("status", "--address", cluster.url).stdout, "the second node never came")
        found = cluster.run(*doctor)
        assert found.returncode == 1 and "not ready: 2" in found.stdout, found.stdout + found.stderr
        assert f"{store} is not the driver's: what the driver has written there is not there" in found.stdout
        assert "other code of wsss-orch" in found.stdout
        assert list(store.iterdir()) == []
        processes = clusters.family(started)
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        silent = cluster.run(*doctor, "--timeout", 5)
        assert silent.returncode == 1 and "did not answer in 5 s" in silent.stdout, silent.stdout + silent.stderr
        assert time.monotonic() - began < PATIENCE / 2 and list(store.iterdir()) == []
        for process in processes:
            process.send_signal(signal.SIGCONT)
    assert os.listdir(store) == []
