"""Nodes that are cut off or lost in training, extraction and refinement: the launch goes on by itself and ends bit-equal.

The nodes have networks of their own (tests/namespaces.py). Ray takes a node for dead after about 65 s of silence.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import write_image_set
from tests.launching import command, digests, finish, manifests, under_way
from tests.namespaces import Machine, Machines, machines, skip_where_impossible

pytestmark = pytest.mark.slow
METHOD = "cam+irn"
OPTIONS = ("--set", "cam.epochs=2", "--set", "cam.scales=[1.0,0.5,1.5,2.0]", "--until", "irn-masks")
PAIR = (*OPTIONS, "--set", "training.workers=2", "--set", "irn.batch=2")
TRAINING, TASK = "RayTrainWorker", "_shard"  # titles of Ray's processes
SHORT = 20  # seconds of a cut that is survived without a loss
DETECTED = 65  # seconds after which Ray takes a silent node for dead
SLACK = 75  # seconds for what follows on a busy machine; tasks that queue for a lost node wait for 100 s


@pytest.fixture(scope="module")
def images() -> Iterator[Path]:
    skip_where_impossible()
    folder = Path(tempfile.mkdtemp(prefix="wsi-", dir="/var/tmp"))  # which all nodes see
    yield write_image_set(folder / "images", train=300)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(images: Path) -> dict[str, str]:
    """The digests of an undisturbed run on the engine without Ray, with two workers as on the cluster."""
    store = images.with_name("whole")
    finish(images, store, *PAIR, "--engine", "local", method=METHOD)
    return digests(store)


class Launch:
    """A launch on a cluster's head."""

    def __init__(self, cluster: Machines, images: Path, store: Path):
        self.cluster, self.store, self.log = cluster, store, cluster.folder / f"launch-{time.monotonic_ns()}.log"
        words = command(images, store, *PAIR, "--address", cluster.address, method=METHOD)[1:]
        self.process = cluster.launch(words, self.log)

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 300) -> float:
        """Wait until `condition` holds while the launch runs; returns the seconds."""
        began = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"it ended before {what}:\n{self.log.read_text()}"
            assert time.monotonic() - began < seconds, f"{what}: not after {seconds} s:\n{self.log.read_text()}"
            time.sleep(0.01)
        return time.monotonic() - began

    def carrier(self, stage: str, title: str) -> Machine:
        """Wait until a stage is half done; returns the node that works on it."""
        self.wait_for(lambda: under_way(self.store, stage) and self.cluster.carrier(title), f"a node works on {stage}")
        found = self.cluster.carrier(title)
        return found or self.carrier(stage, title)

    def made(self, stage: str) -> bool:
        return stage in manifests(self.store)

    def output(self, seconds: float = 600) -> str:
        """The output of a launch, which must succeed."""
        with_code = self.process.wait(seconds)
        assert with_code == 0, self.log.read_text()
        return self.log.read_text()


def reboot(machine: Machine) -> None:
    machine.lose()
    machine.mend()
    machine.begin()
    machine.join()


def quiet(output: str) -> bool:
    """Whether the output holds only our lines: no paragraphs of Ray, tracebacks or glyphs of its servers."""
    return not any(sign in output for sign in ("Traceback", "raylet", "gRPC", "ray::", "(pid=", ".cc:"))


def test_a_node_may_be_cut_off_for_a_while_in_each_kind_of_stage(images: Path, undisturbed: dict[str, str]) -> None:
    with machines(2) as cluster:
        cluster.start()
        launched = Launch(cluster, images, cluster.shared / "store")
        for stage, title in (("cam-network", TRAINING), ("cam-maps", TASK), ("irn-masks", TASK)):
            machine = launched.carrier(stage, title)
            machine.cut()
            time.sleep(SHORT)
            machine.mend()
        output = launched.output()
        assert digests(cluster.shared / "store") == undisturbed
        # once the cable is back, a connection to a training's worker may be reset; Ray Train then starts the workers again
        reset = "cam-network: a worker was lost (it died); going on from the checkpoint, 1 of 3"
        assert "lost" not in output.replace(reset, "", 1) and quiet(output), output


def test_a_launch_goes_on_without_a_node_that_is_cut_off_for_good(images: Path, undisturbed: dict[str, str]) -> None:
    """In training, extraction and refinement. Another node makes its shards once Ray declares it dead."""
    with machines(3) as cluster:
        cluster.start()
        launched = Launch(cluster, images, cluster.shared / "store")
        for stage, title in (("cam-network", TRAINING), ("cam-maps", TASK), ("irn-masks", TASK)):
            machine = launched.carrier(stage, title)
            machine.cut()
            took = launched.wait_for(lambda stage=stage: launched.made(stage), f"{stage} is made", DETECTED + SLACK)
            print(f"{stage}: made {took:.0f} s after the cut")
            reboot(machine)
        output = launched.output()
        assert digests(cluster.shared / "store") == undisturbed
        assert output.count("a worker was lost (it died); going on from the checkpoint") == 1, output
        assert output.count("nodes lost; what was in flight is made again") <= 2 and quiet(output), output


def test_a_raylet_is_killed_in_mid_step_and_the_head_is_lost_and_started_again(images: Path, undisturbed: dict[str, str]) -> None:
    with machines(3) as cluster:
        cluster.start()
        store = cluster.shared / "store"
        launched = Launch(cluster, images, store)
        for stage, title in (("cam-network", TRAINING), ("cam-maps", TASK)):
            machine = launched.carrier(stage, title)
            for raylet in machine.processes("raylet/raylet"):
                raylet.kill()
            took = launched.wait_for(lambda stage=stage: launched.made(stage), f"{stage} is made", DETECTED + SLACK)
            print(f"{stage}: made {took:.0f} s after its raylet was killed")
            reboot(machine)
        launched.carrier("irn-network", TRAINING)
        for machine in cluster.machines.values():  # workers too: they end a minute after their head
            machine.lose()
        launched.process.wait(60)
        assert quiet(launched.log.read_text()), launched.log.read_text()
        assert under_way(store, "irn-network")
        for machine in cluster.machines.values():
            machine.begin()
        cluster.start()
        launched = Launch(cluster, images, store)
        output = launched.output()
        assert "cam-maps: cached" in output and digests(store) == undisturbed, output
