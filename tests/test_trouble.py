"""A store whose file system fails: nothing is written elsewhere, short absences are waited for, and messages say so."""

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from imagesets.errors import WrongInput
from orchestrator.engine.job import blaming
from orchestrator.storage import trouble
from orchestrator.storage.lease import LeaseLost, check_fence, try_lease
from orchestrator.storage.shards import shard_path, write_shard
from orchestrator.storage.store import Store, write_json
from orchestrator.storage.trouble import StoreAbsent, StoreGone, patiently, require
from tests.conftest import write_image_set
from tests.finished_run import PretendEngine, finished_run
from tests.small_disk import fill, small_disk
from training.checkpoint import save_atomically

RECORDS = {"x": {"label": np.zeros((2, 3), np.uint8)}}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    assert Store(root).open() and not Store(root).open()
    return root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 4) as place:
        yield place


def fail_twice(error: Exception) -> Callable[[], str]:
    left = [error, error]

    def do() -> str:
        if left:
            raise left.pop()
        return "done"

    return do


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_a_file_system_that_fails_for_a_moment_is_tried_again_later_each_time_and_said_once(store: Path, number: int) -> None:
    said: list[str] = []
    pauses: list[float] = []
    fail = fail_twice(OSError(number, os.strerror(number)))

    def do() -> str:
        with blaming(store):
            return fail()

    assert patiently(store, do, said.append, pauses.append) == "done"
    assert pauses == [1.0, 2.0]
    (told,) = said
    assert f"fails on {socket.gethostname()} ({os.strerror(number)}); the launch sees it, and tries again for 63 s" in told


def test_a_store_that_one_node_does_not_see_is_reported_with_the_node_and_not_as_absent(store: Path) -> None:
    said: list[str] = []

    def do() -> None:
        raise StoreAbsent(f"the store {store} is not there on node-b (No such file or directory)")

    with pytest.raises(StoreGone, match=r"on node-b .* `wsss-orch doctor --address` tells what each node sees"):
        patiently(store, do, said.append, lambda seconds: None)
    assert len(said) == 1 and "node-b" in said[0]


def test_a_store_that_comes_back_is_waited_for_and_said(store: Path) -> None:
    said: list[str] = []
    store.rename(store.with_name("away"))
    patiently(store, lambda: require(store), said.append, lambda seconds: store.with_name("away").rename(store) and None)
    assert "waiting up to 60 s" in said[0] and said[1].endswith("going on") and len(said) == 2


def test_a_store_that_always_fails_ends_the_launch_with_a_sentence(store: Path) -> None:
    pauses: list[float] = []

    def do() -> None:
        raise StoreAbsent("the store fails")

    with pytest.raises(WrongInput, match=r"7th time in one stage; .* the same command continues"):
        patiently(store, do, lambda line: None, pauses.append)
    assert sum(pauses) == 63


def test_an_absence_of_more_than_the_patience_ends_the_launch_with_a_sentence(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trouble, "PATIENCE", 0.1)
    store.rename(store.with_name("away"))
    with pytest.raises(WrongInput, match=r"is not there .* nothing is written in its place: once it is back, the same command"):
        patiently(store, lambda: require(store), lambda line: None, lambda seconds: time.sleep(0.02))


def test_an_image_s_disk_that_fails_is_not_the_store(store: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a\.jpg") as told, blaming(store):
        raise OSError(errno.EIO, "Input/output error", str(tmp_path / "images" / "a.jpg"))
    assert not isinstance(told.value, StoreAbsent)


def test_a_store_that_did_not_come_back_is_not_waited_for_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "PATIENCE", 0.1)
    store.rename(store.with_name("away"))

    def inner() -> None:
        patiently(store, lambda: require(store), lambda line: None, lambda seconds: time.sleep(0.02))

    with pytest.raises(StoreGone), blaming(store):
        inner()


def test_an_error_of_our_own_is_not_the_store_s(store: Path) -> None:
    with pytest.raises(KeyError, match="ours"), blaming(store):
        raise KeyError("ours")
    assert not list(store.glob(".probe*"))


@pytest.mark.parametrize("empty", [False, True])
def test_nothing_is_written_where_the_store_was(store: Path, empty: bool) -> None:
    """Neither a new store nor a file in the empty folder that an unmounted disk leaves."""
    stage = store / "stages" / "cam-maps-0123456789ab"
    stage.mkdir()
    store.rename(store.with_name("away"))
    if empty:
        store.mkdir()
    writers: list[Callable[[], object]] = [
        lambda: write_json(stage / "manifest.json", {}),
        lambda: write_json(store / "runs" / "run" / "results.json", {}),
        lambda: write_shard(shard_path(stage, 0), RECORDS, "inputs"),
        lambda: save_atomically({}, stage / "checkpoint.pt"),
        lambda: try_lease(stage).__enter__(),
    ]
    for write in writers:
        with pytest.raises(StoreAbsent), blaming(store):
            write()
    assert not list(store.iterdir()) if empty else not store.exists()


def test_an_absent_store_is_no_lost_lease(store: Path) -> None:
    stage = store / "stages" / "cam-maps-0123456789ab"
    with try_lease(stage) as lease:
        assert lease is not None
        store.rename(store.with_name("away"))
        with pytest.raises(StoreAbsent):
            lease.fence()
        store.with_name("away").rename(store)
        lease.fence()
        lease.path.unlink()
        with pytest.raises(LeaseLost):
            check_fence(lease.path, lease.token)


def test_a_full_disk_is_said_in_one_sentence_and_leaves_what_was_there_whole(disk: Path) -> None:
    store = disk / "store"
    Store(store).open()
    stage = store / "stages" / "cam-maps-0123456789ab"
    write_json(stage / "manifest.json", {"old": True})
    before = (stage / "manifest.json").read_bytes()
    fill(disk)
    large = {"x": {"map": np.random.default_rng(0).random(100_000)}}
    writers: list[Callable[[], object]] = [
        lambda: write_json(stage / "manifest.json", {"new": "x" * 10_000}),
        lambda: write_shard(shard_path(stage, 0), large, "inputs"),
        lambda: save_atomically({"weight": torch.zeros(100_000)}, stage / "checkpoint.pt"),
        lambda: try_lease(stage).__enter__(),
    ]
    for write in writers:
        with (
            pytest.raises(WrongInput, match=r"the disk is full: .* with 0.0 MB of 4 MB free; make room .* same command"),
            blaming(store),
        ):
            write()
    whole = {path.name for path in stage.rglob("*") if path.is_file() and path.suffix != ".partial"}
    assert whole == {"manifest.json"} and (stage / "manifest.json").read_bytes() == before


class FillingEngine(PretendEngine):
    """Fills the disk at the end of a training, so that its manifest cannot be written."""

    def train(self, job):  # type: ignore[no-untyped-def]
        spent = super().train(job)
        fill(job.root.parent)
        return spent


def test_a_stage_whose_manifest_found_no_room_does_not_count_and_is_made_once_there_is_room(disk: Path, tmp_path: Path) -> None:
    images, store = write_image_set(tmp_path / "images"), disk / "store"
    with pytest.raises(WrongInput, match=r"the disk is full: .*manifest.json"):
        finished_run(store, images, "cam+none", FillingEngine)
    assert not list(store.glob("stages/*/manifest.json")) and not list(store.glob("stages/*/lease.json"))
    (disk / "filler").unlink()
    _, results, _ = finished_run(store, images, "cam+none")
    assert [row["component"] for row in results["rows"]] == ["cam", "none", "deeplabv2"]
