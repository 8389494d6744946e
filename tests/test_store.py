"""The store: half-written work never counts, and leases let one launch compute."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesets.errors import WrongInput
from orchestrator.engine.shard_work import add
from orchestrator.storage import lease as leases
from orchestrator.storage.host import SILENCE, host
from orchestrator.storage.lease import LeaseLost, try_lease
from orchestrator.storage.place import MANIFEST
from orchestrator.storage.shards import (
    SHARD,
    SUM,
    Shards,
    StoredRecords,
    shard_is_from,
    shard_path,
    shards_digest,
    summed,
    write_names,
    write_shard,
)
from orchestrator.storage.store import FORMAT, Store, read_manifest, write_json


def records(names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    return {name: {"label": np.full((2, 3), index, np.uint8), "keys": np.arange(index)} for index, name in enumerate(names)}


def test_records_are_summed_as_they_come_in_integers_that_hold_the_sum() -> None:
    total: dict[str, np.ndarray] = {}
    for _ in range(3):
        add(total, {"pixels": np.array([100, 1], np.uint8), "images": np.array(True)})
    assert total["pixels"].tolist() == [300, 3] and total["images"] == 3


def test_what_is_kept_of_each_item_is_no_part_of_the_sum_whatever_an_item_is_called(tmp_path: Path) -> None:
    for index, item in enumerate(("sum", "made_from")):
        records = {SUM: {"pixels": np.array(2)}, item: {"pixels": np.array(40 + index)}}
        write_shard(shard_path(tmp_path, index), records, "a")
    write_names(tmp_path, [["sum"], ["made_from"]])
    assert summed(tmp_path, 2) == {"pixels": 4}
    assert [record["pixels"] for record in StoredRecords(tmp_path).in_order()] == [40, 41]
    assert StoredRecords(tmp_path)["made_from"]["pixels"] == 41


def test_records_come_back_by_name_from_their_shard(tmp_path: Path) -> None:
    names = [f"2007_{number:06d}" for number in range(SHARD + 5)]
    for index, part in enumerate(Shards(names)):
        write_shard(shard_path(tmp_path, index), {name: records(names)[name] for name in part}, "inputs")
    write_names(tmp_path, Shards(names))
    stored = StoredRecords(tmp_path)
    assert len(stored) == len(names)
    for name, expected in records(names).items():
        assert {key: value.tolist() for key, value in stored[name].items()} == {
            key: value.tolist() for key, value in expected.items()
        }


@given(st.integers(0, 300))
def test_shards_keep_every_item_once_and_in_order(count: int) -> None:
    assert [item for part in Shards(range(count)) for item in part] == list(range(count))


def test_a_shard_counts_only_for_the_inputs_it_was_made_from_and_only_whole(tmp_path: Path) -> None:
    path = shard_path(tmp_path, 0)
    assert not shard_is_from(path, "a")
    write_shard(path, records(["x"]), "a")
    assert shard_is_from(path, "a") and not shard_is_from(path, "b")
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not shard_is_from(path, "a")


@pytest.mark.parametrize("changed", [1, 4, 255])  # these bits; the first can mean a password, the second another compression
def test_a_changed_byte_of_a_shard_is_read_as_it_was_or_told(tmp_path: Path, changed: int) -> None:
    path = shard_path(tmp_path, 0)
    write_shard(path, records(["x", "y"]), "inputs")
    write_names(tmp_path, [["x", "y"]])
    whole, told = path.read_bytes(), 0
    expected = {name: StoredRecords(tmp_path)[name]["label"].tolist() for name in ("x", "y")}
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ changed]) + whole[place + 1 :])
        shard_is_from(path, "inputs")  # it raises nothing
        try:
            found = {name: record["label"].tolist() for name, record in StoredRecords(tmp_path).items()}
            assert found == expected
        except WrongInput as error:
            assert str(path) in str(error) and "--force" in str(error)
            told += 1
        except KeyError:  # the name of an array has changed
            pass
    assert told > len(whole) // 4


def test_equal_records_give_equal_digests(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_shard(shard_path(tmp_path / folder, 0), records(["x", "y"]), "a")
    assert shards_digest(tmp_path / "one", 1) == shards_digest(tmp_path / "two", 1)


def test_a_result_is_found_by_its_key_whatever_stage_made_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = store.folder("amn-labels", "0123456789abcdef")
    made.mkdir(parents=True)
    assert store.folder("irn-labels", "0123456789abcdef") == made
    assert store.folder("irn-labels", "fedcba9876543210") != made


def test_results_in_the_format_of_another_version_do_not_count(tmp_path: Path) -> None:
    for number, known in enumerate(({"format": FORMAT}, {"format": FORMAT - 1}, {})):
        (tmp_path / "stages" / f"cam-maps-{number}").mkdir(parents=True)
        write_json(tmp_path / "stages" / f"cam-maps-{number}" / MANIFEST, {"stage": "cam-maps", "identity": known, "n": number})
    assert [manifest["n"] for manifest in Store(tmp_path).results("cam-maps")] == [0]


def test_sums_add_over_shards(tmp_path: Path) -> None:
    for index in range(3):
        write_shard(shard_path(tmp_path, index), {SUM: {"confusion": np.eye(2, dtype=np.int64)}}, "a")
    assert summed(tmp_path, 3)["confusion"].tolist() == [[3, 0], [0, 3]]


def test_a_lease_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    with try_lease(tmp_path) as first:
        assert first is not None
        with try_lease(tmp_path) as second:
            assert second is None
        first.fence()
    with try_lease(tmp_path) as third:
        assert third is not None


def _hold(folder: Path, held: Any) -> None:
    with try_lease(folder):
        held.set()
        time.sleep(60)


def test_the_lease_of_a_killed_holder_is_taken_over(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, held))
    holder.start()
    assert held.wait(30)
    with try_lease(tmp_path) as early:
        assert early is None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with try_lease(tmp_path) as taken:
        assert taken is not None


def test_a_silent_holder_on_another_host_loses_its_lease_and_its_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "old"}))
    with try_lease(tmp_path) as early:
        assert early is None
    os.utime(path, (time.time() - 2 * SILENCE,) * 2)
    with try_lease(tmp_path) as taken:
        assert taken is not None
        with pytest.raises(LeaseLost):
            leases.check_fence(path, "old")


@pytest.mark.parametrize("content", [b"", bytes(40), b"\xff"])
def test_a_damaged_lease_is_that_of_a_holder_who_is_dead_once_it_is_old(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lease.json"
    path.write_bytes(content)
    assert leases.held(tmp_path)
    with try_lease(tmp_path) as early:
        assert early is None
    os.utime(path, (time.time() - 2 * SILENCE,) * 2)
    assert not leases.held(tmp_path)
    with try_lease(tmp_path) as taken:
        assert taken is not None
        path.write_bytes(content)
        assert not leases._beat(taken)


def test_a_lease_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[bool]()
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((tmp_path / "lease.json").exists()))
    with try_lease(tmp_path) as lease:
        assert lease is not None and synced == [False]
        before = lease.token
        monkeypatch.setattr(os, "fsync", lambda number: synced.append(leases.read_lease(lease.path)["token"] == before))
        lease.renew()
    assert synced == [False, True]


def test_a_taker_that_judged_too_early_gives_a_living_lease_back(tmp_path: Path) -> None:
    dead = {"host": "elsewhere", "pid": 1, "token": "dead"}
    living = {**dead, "token": "living"}  # of the taker that was faster
    path = tmp_path / "lease.json"
    path.write_text(json.dumps(living))
    assert not leases._take_over(path, "late", dead)
    assert json.loads(path.read_text()) == living


def test_a_holder_whose_lease_is_moved_aside_and_given_back_still_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with try_lease(tmp_path) as lease:
        assert lease is not None
        aside = lease.path.rename(tmp_path / ".lease.dead.x")
        monkeypatch.setattr(time, "sleep", lambda seconds: aside.rename(lease.path))
        assert leases._beat(lease)
        lease.path.unlink()
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        monkeypatch.setattr(leases, "require", lambda root: None)  # the store is there
        assert not leases._beat(lease)


def _try_once(folder: Path, start: Any, won: Any) -> None:
    start.wait()
    with try_lease(folder) as lease:
        won.put(lease is not None)
        time.sleep(0.5)


@pytest.mark.parametrize("dead", [False, True])
def test_one_of_many_that_try_at_once_gets_the_lease(tmp_path: Path, dead: bool) -> None:
    if dead:
        (tmp_path / "lease.json").write_text(json.dumps({"host": host(), "pid": 2**22 + 1, "token": "x"}))
    context = multiprocessing.get_context("fork")
    start, won = context.Barrier(6), context.Queue()
    tries = [context.Process(target=_try_once, args=(tmp_path, start, won)) for _ in range(6)]
    for process in tries:
        process.start()
    outcomes = [won.get(timeout=30) for _ in tries]
    for process in tries:
        process.join()
    assert outcomes.count(True) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_file_is_named_with_what_helps(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(WrongInput, match=r"manifest\.json is not whole .*; remove it"):
        read_manifest(tmp_path)
