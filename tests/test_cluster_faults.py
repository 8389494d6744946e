"""Drivers that die or share a cluster of several nodes (on this machine): a launch that is started again continues."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import write_image_set
from tests.launching import digests, finish, manifests, start, under_way, wait_for
from tests.small_cluster import SmallCluster, small_cluster

pytestmark = pytest.mark.slow
METHOD = "cam+irn"
OPTIONS = ("--set", "cam.epochs=3", "--set", "cam.scales=[1.0,0.5,1.5,2.0]", "--until", "irn-masks")
PAIR = (*OPTIONS, "--set", "training.workers=2", "--set", "irn.batch=2")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_set(tmp_path_factory.mktemp("set") / "images", train=100)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    folder = Path(tempfile.mkdtemp(prefix="wc-"))
    with small_cluster(folder / "ray", nodes=3) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of an undisturbed run on the engine without Ray, with two workers as on the cluster."""
    store = tmp_path_factory.mktemp("whole") / "store"
    finish(images, store, *PAIR, "--engine", "local", method=METHOD)
    return digests(store)


def launching(cluster: SmallCluster, images: Path, store: Path) -> subprocess.Popen[str]:
    return start(images, store, *PAIR, "--address", cluster.address, method=METHOD)


def working(cluster: SmallCluster, store: Path, stage: str, title: str) -> Callable[[], bool]:
    """Whether a stage is half done and a node works on it."""
    return lambda: under_way(store, stage) and cluster.carrier(title) is not None


def ended(process: subprocess.Popen[str], seconds: float = 150) -> str:
    output, _ = process.communicate(timeout=seconds)
    return output


def test_a_killed_driver_s_work_ends_and_the_same_command_continues(
    cluster: SmallCluster, images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    for stage, title in (("cam-network", "RayTrainWorker"), ("irn-masks", "_shard")):
        process = launching(cluster, images, store)
        wait_for(working(cluster, store, stage, title), process)
        process.kill()
        process.communicate()
        began = time.monotonic()
        while cluster.carrier(title) is not None:
            assert time.monotonic() - began < 60, "the dead driver's work goes on"
            time.sleep(0.1)
    process = launching(cluster, images, store)
    output = ended(process)
    assert process.returncode == 0, output
    assert digests(store) == undisturbed


def test_a_launch_takes_over_from_another_that_is_killed_on_the_same_cluster(
    cluster: SmallCluster, images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    first = launching(cluster, images, store)
    wait_for(working(cluster, store, "cam-network", "RayTrainWorker"), first)
    second = launching(cluster, images, store)
    waiting: list[str] = []
    assert second.stdout is not None
    while not any("another launch is making it; waiting" in line for line in waiting):
        waiting.append(second.stdout.readline())
        assert waiting[-1], "".join(waiting)
    first.kill()
    first.communicate()
    output = ended(second)
    assert second.returncode == 0, output
    assert digests(store) == undisturbed and set(manifests(store)) == set(undisturbed)


def test_two_launches_on_one_cluster_make_each_stage_once(
    cluster: SmallCluster, images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    pair = [launching(cluster, images, store) for _ in range(2)]
    outputs = [ended(process) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    made = [line.split(":")[0] for output in outputs for line in output.splitlines() if ": done in" in line]
    assert sorted(made) == sorted(undisturbed) and digests(store) == undisturbed


def test_nothing_of_any_launch_is_left_on_the_cluster(cluster: SmallCluster) -> None:
    """After all tests above: at most idle workers of Ray."""
    names = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not [name for name in names if "RayTrainWorker" in name or "_shard" in name or "wsss-orch" in name]
