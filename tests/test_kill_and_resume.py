"""SIGKILL in the middle of a stage, then the same command again: the results are those of an undisturbed run."""

from pathlib import Path

import psutil
import pytest

from tests.conftest import write_image_set
from tests.launching import digests, finish, kill, manifests, start, under_way, wait_for

pytestmark = pytest.mark.slow
STAGES = (
    "cam-network",
    "cam-maps",
    "lpcam-prototypes",
    "amn-labels",
    "amn-network",
    "irn-network",
    "irn-masks",
    "deeplabv2-segmenter",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """An image set and the digests of an undisturbed run."""
    root = tmp_path_factory.mktemp("whole")
    images = write_image_set(root / "images", train=40)
    finish(images, root / "store", "--engine", "local")
    return images, digests(root / "store")


def test_a_run_killed_in_every_stage_ends_bit_equal(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    images, expected = undisturbed
    store, caught = tmp_path / "store", []
    for stage in STAGES:

        def reached(stage: str = stage) -> bool:
            return under_way(store, stage) or stage in manifests(store)

        process = start(images, store, "--engine", "local")
        wait_for(reached, process)
        caught.append(under_way(store, stage))
        kill(process)
    assert sum(caught) >= len(STAGES) // 2  # a stage of some milliseconds may be over before it is looked at
    finish(images, store, "--engine", "local")
    assert digests(store) == expected


def test_a_killed_driver_s_run_continues_on_ray_and_its_orphans_are_ended(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    images, expected = undisturbed
    store = tmp_path / "store"
    process = start(images, store)
    wait_for(lambda: under_way(store, "cam-network"), process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    finish(images, store)
    assert digests(store) == expected
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, f"orphans: {[orphan.name() for orphan in alive]}"


def test_a_killed_ray_train_worker_is_survived(tmp_path: Path) -> None:
    images = write_image_set(tmp_path / "images", train=40)
    options = ("--set", "training.workers=2", "--set", "cam.epochs=30", "--until", "cam-network")
    finish(images, tmp_path / "whole", *options)
    store = tmp_path / "store"
    process = start(images, store, *options)
    wait_for(lambda: under_way(store, "cam-network"), process)
    family = psutil.Process(process.pid).children(recursive=True)
    trainers = [member for member in family if "RayTrainWorker" in " ".join(member.cmdline())]
    assert len(trainers) == 2
    trainers[1].kill()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert digests(store) == digests(tmp_path / "whole")


def test_sigterm_checkpoints_and_the_same_command_continues(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    images, expected = undisturbed
    store = tmp_path / "store"
    process = start(images, store, "--engine", "local")
    wait_for(lambda: under_way(store, "amn-network"), process)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command continues" in output and "Traceback" not in output
    assert "amn-network: goes on from its checkpoint" in finish(images, store, "--engine", "local").stdout
    assert digests(store) == expected


def test_two_launches_at_once_make_each_stage_once(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    images, expected = undisturbed
    store = tmp_path / "store"
    pair = [start(images, store, "--engine", "local") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    assert digests(store) == expected
    made = [line.split(":")[0] for output in outputs for line in output.splitlines() if ": done in" in line]
    assert sorted(made) == sorted(expected)
