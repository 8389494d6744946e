"""Ctrl-C and SIGTERM: a launch ends within seconds, leaves no process, says how to continue, and ends bit-equal."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import write_image_set
from tests.launching import command, digests, finish, start, under_way, wait_for

pytestmark = pytest.mark.slow
OPTIONS = ("--set", "cam.epochs=4", "--set", "cam.scales=[1.0,0.5,1.5,2.0]", "--until", "cam-maps")
WITHIN = 20.0  # seconds, on a busy machine
ENGINES = ("local", "ray")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """An image set in a folder whose name needs quotes, and the digests of an undisturbed run."""
    root = tmp_path_factory.mktemp("whole run")
    images = write_image_set(root / "images", train=200)  # so many that half of a stage takes seconds
    finish(images, root / "store", *OPTIONS, "--engine", "local", method="cam+none")
    return images, digests(root / "store")


def working(process: subprocess.Popen[str], store: Path, stage: str) -> Callable[[], bool]:
    """Whether this launch, and not an earlier one, has done a part of a stage."""
    began = time.time()

    def forward() -> bool:
        notes = [path for name in ("progress.json", "shards/0*.npz") for path in store.glob(f"stages/{stage}-*/{name}")]
        return under_way(store, stage) and any(path.stat().st_mtime > began for path in notes)

    return forward


def family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A launch, its descendants and its session."""
    launched = psutil.Process(process.pid)
    session = [other for other in psutil.process_iter() if _session(other.pid) == process.pid]
    return [launched, *launched.children(recursive=True), *session]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def ctrl_c(process: subprocess.Popen[str]) -> None:
    """Send Ctrl-C to every process of the group, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


def nothing_is_left(family: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive, f"orphans: {[orphan.cmdline() for orphan in alive]}"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_launch_ends_within_seconds_and_says_how_to_go_on(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, engine: str
) -> None:
    images, expected = undisturbed
    store = tmp_path / "store"
    options = (*OPTIONS, "--engine", engine)
    given = shlex.join(["wsss-orch", *command(images, store, *options, method="cam+none")[1:]])
    assert "'" in given
    for stage, send in (("cam-network", ctrl_c), ("cam-network", subprocess.Popen.terminate), ("cam-maps", ctrl_c)):
        process = start(images, store, *options, method="cam+none")
        wait_for(working(process, store, stage), process)
        time.sleep(0.5)
        family, began = family_of(process), time.monotonic()
        send(process)
        output, _ = process.communicate(timeout=60)
        took = time.monotonic() - began
        print(f"{engine} {stage} {send.__name__}: {took:.1f} s")
        assert process.returncode == 130 and "Traceback" not in output, output
        assert took < WITHIN
        assert f"error: interrupted; the same command continues: {given}" in output.splitlines(), output
        nothing_is_left(family)
    finish(images, store, *options, method="cam+none")
    assert digests(store) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_ctrl_c_ends_it_at_once(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, engine: str) -> None:
    images, _ = undisturbed
    store = tmp_path / "store"
    options = ("--set", "training.workers=2", *OPTIONS, "--engine", engine)
    process = start(images, store, *options, method="cam+none")
    wait_for(working(process, store, "cam-network"), process)
    family = family_of(process)
    assert len(family) > 3  # the workers are in it
    ctrl_c(process)
    time.sleep(0.1)
    began = time.monotonic()
    ctrl_c(process)
    process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - began < 3
    nothing_is_left(family)
