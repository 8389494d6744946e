"""The store's disk fills up or vanishes in the middle of a launch; the results are those of an undisturbed run."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import write_image_set
from tests.launching import digests, finish, kill, manifests, start, under_way, wait_for
from tests.small_disk import fill, small_disk

pytestmark = pytest.mark.slow
OPTIONS = ("--set", "cam.epochs=3", "--until", "cam-maps")
ENGINES = ("local", "ray")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """An image set and the digests of an undisturbed run."""
    root = tmp_path_factory.mktemp("whole")
    images = write_image_set(root / "images", train=100)
    finish(images, root / "store", *OPTIONS, "--engine", "local", method="cam+none")
    return images, digests(root / "store")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 64) as place:
        yield place


@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_that_fills_up_in_a_checkpoint_and_in_a_shard(
    undisturbed: tuple[Path, dict[str, str]], disk: Path, engine: str
) -> None:
    images, expected = undisturbed
    store = disk / "store"
    for stage in ("cam-network", "cam-maps"):
        process = start(images, store, *OPTIONS, "--engine", engine, method="cam+none")
        wait_for(lambda stage=stage: under_way(store, stage), process)  # type: ignore[misc]
        filler = fill(disk)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 2 and "Traceback" not in output, output
        (said,) = [line for line in output.splitlines() if line.startswith("error:")]
        assert "the disk is full" in said and str(store) in said and "MB free; make room" in said and "same command" in said
        assert stage not in manifests(store) and not list(store.glob("stages/*/*.partial"))
        filler.unlink()
    finish(images, store, *OPTIONS, "--engine", engine, method="cam+none")
    assert digests(store) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_store_that_vanishes_for_seconds_is_waited_for(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, engine: str
) -> None:
    images, expected = undisturbed
    store, away = tmp_path / "store", tmp_path / "away"
    process = start(images, store, *OPTIONS, "--engine", engine, method="cam+none")
    for stage in ("cam-network", "cam-maps"):
        wait_for(lambda stage=stage: under_way(store, stage), process)  # type: ignore[misc]
        store.rename(away)
        store.mkdir()  # as an unmounted disk leaves it
        time.sleep(6)
        store.rmdir()  # fails if anything was written into it
        away.rename(store)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert output.count("waiting up to 60 s for it") >= 1 and output.count("going on") >= 1, output
    assert "waiting up to 60 s" in "".join(path.read_text() for path in store.glob("runs/*/log.txt"))
    assert digests(store) == expected


def test_a_store_that_stays_away_ends_the_launch(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    images, expected = undisturbed
    store, away = tmp_path / "store", tmp_path / "away"
    process = start(images, store, *OPTIONS, "--engine", "local", method="cam+none")
    wait_for(lambda: under_way(store, "cam-network"), process)
    store.rename(away)
    output, _ = process.communicate(timeout=110)
    assert process.returncode == 2 and "Traceback" not in output, output
    assert "is not there" in output and "once it is back, the same command continues" in output
    assert not store.exists()
    away.rename(store)
    finish(images, store, *OPTIONS, "--engine", "local", method="cam+none")
    assert digests(store) == expected


def test_a_signal_ends_the_wait_for_an_absent_store(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    images, _ = undisturbed
    store = tmp_path / "store"
    process = start(images, store, *OPTIONS, "--engine", "local", method="cam+none")
    wait_for(lambda: under_way(store, "cam-network"), process)
    store.rename(tmp_path / "away")
    time.sleep(3)
    began = time.monotonic()
    process.terminate()
    try:
        output, _ = process.communicate(timeout=20)
    finally:
        kill(process)
    assert process.returncode == 130 and time.monotonic() - began < 10, output
    assert not store.exists()
