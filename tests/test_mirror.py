"""Mirrors of a remote place (here a folder): what is uploaded, what a mirror fetches, and who may write."""

import json
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem, SubTreeFileSystem

from imagesets.errors import WrongInput
from orchestrator.storage import bucket, driver, remote
from orchestrator.storage.bucket import Bucket
from orchestrator.storage.driver import driving
from orchestrator.storage.host import host
from orchestrator.storage.lease import DriverLost, LeaseLost
from orchestrator.storage.place import FOLDER, buckets, place_of
from orchestrator.storage.remote import Address, Remote, address_of
from orchestrator.storage.result import Attempt, Result, discard_stage
from orchestrator.storage.shards import StoredRecords, shard_path, write_names, write_shard
from orchestrator.storage.store import Store, read_json, write_json

ADDRESS = Address("s3://lab/store")


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that stands for the bucket."""
    files = SubTreeFileSystem(str(tmp_path / "s3"), PyFileSystem(FSSpecHandler(LocalFileSystem(auto_mkdir=True))))
    monkeypatch.setattr(remote, "file_system", lambda address: files)
    monkeypatch.setattr(driver, "STEP_BACK", 0.0)
    (tmp_path / "s3/lab/store").mkdir(parents=True)
    yield tmp_path / "s3/lab/store"
    buckets.clear()


def opened(root: Path) -> Path:
    """A mirror as a command opens it, alone in its process."""
    buckets.clear()
    bucket.open_bucket(root, ADDRESS)
    Store(root).open()
    return root


def stage(root: Path, name: str = "cam-maps-00112233aabb", value: int = 1, digest: str = "d1") -> Path:
    """A finished stage of two shards."""
    folder = root / "stages" / name
    Store(root).open()
    write_json(folder / "made_from.json", {"made_from": "inputs"})
    for index in range(2):
        write_shard(shard_path(folder, index), {f"image{index}": {"label": np.full(3, value)}}, "inputs")
    write_names(folder, [["image0"], ["image1"]])
    write_json(folder / "manifest.json", {"digest": digest, "stage": "cam-maps", "finished": 1.0})
    return folder


def test_a_local_store_is_no_mirror(tmp_path: Path, there: Path) -> None:
    folder = stage(tmp_path / "local")
    assert place_of(folder) is FOLDER and not list(there.iterdir())
    with driving(tmp_path / "local"):
        assert not (tmp_path / "local" / "lease.json").exists()


def test_what_is_written_is_there_under_the_same_names(tmp_path: Path, there: Path) -> None:
    folder = stage(opened(tmp_path / "one"))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    kept = sorted(path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file())
    assert kept == [f"stages/{folder.name}/{name}" for name in names] and len(names) == 5


def test_a_mirror_behind_a_link_is_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "scratch")
    monkeypatch.setenv(bucket.VARIABLE, str(tmp_path / "home"))
    root = opened(bucket.mirror_folder(ADDRESS))
    assert place_of(root.resolve() / "stages") is place_of(root) is not FOLDER


def test_a_mirror_that_is_not_attached_is_never_written_as_if_it_were_a_store(tmp_path: Path) -> None:
    root = opened(tmp_path / "one")
    buckets.clear()
    with pytest.raises(WrongInput, match="the mirror of a store on S3"), driving(root):
        raise AssertionError("it was written")


def test_what_belongs_to_one_machine_stays_on_it(tmp_path: Path, there: Path) -> None:
    root = opened(tmp_path / "one")
    (root / "images").mkdir()
    for place in ("ray/processes-host-1.json", "stages/x/progress.json", "images/shapes/a.json"):
        write_json(root / place, {})
    assert not list(there.iterdir())


def test_another_mirror_takes_small_files_and_fetches_shards_as_they_are_read(tmp_path: Path) -> None:
    stage(opened(tmp_path / "one"))
    folder = opened(tmp_path / "two") / "stages" / "cam-maps-00112233aabb"
    assert (folder / "manifest.json").exists() and not (folder / "shards").exists()
    assert StoredRecords(folder)["image1"]["label"].tolist() == [1, 1, 1]
    assert [path.name for path in (folder / "shards").iterdir()] == ["000001.npz"]


def test_a_file_that_could_not_be_put_is_not_in_the_mirror_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = opened(tmp_path / "one")

    def fail(self: Remote, content: bytes, key: str) -> None:
        raise OSError("ACCESS_DENIED")

    monkeypatch.setattr(Remote, "put", fail)
    with pytest.raises(OSError, match="DENIED"):
        write_json(root / "stages/x/manifest.json", {})
    assert read_json(root / "stages/x/manifest.json") is None


def test_what_was_deleted_remotely_does_not_come_back(tmp_path: Path) -> None:
    stage(opened(tmp_path / "one"))
    elsewhere = opened(tmp_path / "two") / "stages" / "cam-maps-00112233aabb"
    assert discard_stage(elsewhere) and not elsewhere.exists()
    folder = opened(tmp_path / "one") / "stages" / "cam-maps-00112233aabb"
    assert not (folder / "manifest.json").exists() and not (folder / "shards").exists()


def test_a_stage_made_anew_elsewhere_replaces_all_that_a_mirror_has_of_it(tmp_path: Path) -> None:
    folder = stage(opened(tmp_path / "one"))
    stage(opened(tmp_path / "two"), value=2, digest="d2")
    opened(tmp_path / "one")
    assert StoredRecords(folder)["image0"]["label"].tolist() == [2, 2, 2]


def test_a_worker_s_mirror_has_only_the_result_that_its_job_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bucket.VARIABLE, str(tmp_path / "node"))
    sent = pickle.dumps(Result(stage(opened(tmp_path / "one"))))
    buckets.clear()
    result = pickle.loads(sent)
    folder = result.folder
    assert tmp_path / "node" in folder.parents and folder.name == "cam-maps-00112233aabb" and not folder.exists()
    shard_path(folder, 0).parent.mkdir(parents=True)
    shard_path(folder, 0).write_bytes(b"of another result")
    result.settle()
    assert StoredRecords(folder)["image0"]["label"].tolist() == [1, 1, 1]
    before = shard_path(folder, 0).stat().st_ino
    result.settle()
    assert shard_path(folder, 0).stat().st_ino == before


def test_an_unfinished_stage_has_the_shards_of_the_bucket(tmp_path: Path) -> None:
    folder = stage(opened(tmp_path / "one"))
    root = opened(tmp_path / "two")
    other = root / folder.relative_to(tmp_path / "one") / "shards"
    other.mkdir()
    (other / "000007.npz").write_bytes(b"left over")
    place_of(root).take_over(other, "[0-9]*.npz")
    assert sorted(path.name for path in other.iterdir()) == ["000000.npz", "000001.npz"]
    before = {path: path.stat().st_ino for path in other.iterdir()}
    place_of(root).take_over(other, "[0-9]*.npz")
    assert before == {path: path.stat().st_ino for path in other.iterdir()}  # nothing is brought twice


def test_a_removed_file_is_gone_in_both_places(tmp_path: Path, there: Path) -> None:
    root = opened(tmp_path / "one")
    write_json(root / "runs/run/failed.json", {})
    place_of(root).remove(root / "runs/run/failed.json")
    place_of(root).remove(root / "runs/run/never.json")
    assert not (there / "runs/run/failed.json").exists() and not place_of(root).file(root / "runs/run/failed.json").exists()


def test_a_checkpoint_goes_up_while_the_training_runs_and_the_last_one_when_it_is_stopped(
    tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.storage.in_step.PACE", 0.02)
    folder = opened(tmp_path / "one") / "stages" / "x"
    attempt = Attempt(folder, token="token")
    attempt.begin(made=())
    (there / "stages/x/stop").touch()
    with pytest.raises(KeyboardInterrupt), attempt.resuming("checkpoint.pt", rank=0):
        (folder / "checkpoint.pt").write_bytes(b"first")
        deadline = time.monotonic() + 20
        while not ((there / "stages/x/checkpoint.pt").exists() and (folder / "stop").exists()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (folder / "checkpoint.pt").write_bytes(b"last")
        raise KeyboardInterrupt
    assert (there / "stages/x/checkpoint.pt").read_bytes() == b"last"


def test_every_training_worker_starts_from_the_remote_checkpoint(tmp_path: Path, there: Path) -> None:
    root = opened(tmp_path / "one")
    path = root / "stages/x/checkpoint.pt"
    (there / "stages/x").mkdir(parents=True)
    (there / "stages/x/checkpoint.pt").write_bytes(b"epoch 3")
    attempt = Attempt(path.parent, token="token")
    with attempt.resuming("checkpoint.pt", rank=1):
        assert path.read_bytes() == b"epoch 3"
    (there / "stages/x/checkpoint.pt").unlink()
    with attempt.resuming("checkpoint.pt", rank=1):
        assert not path.exists()  # a file that no worker elsewhere can have


def raise_flag(there: Path, host: str, pid: int) -> Path:
    path = there / "drivers" / "0123.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": host, "pid": pid, "token": "0123"}))
    return path


def test_a_second_driver_is_refused_in_one_sentence_and_may_read(tmp_path: Path, there: Path) -> None:
    flag = raise_flag(there, "elsewhere", 4711)
    root = opened(tmp_path / "one")
    with pytest.raises(WrongInput, match="in use by a launch on elsewhere, process 4711; one launch at a time"), driving(root):
        pass
    assert list((there / "drivers").iterdir()) == [flag] and not (root / "lease.json").exists()


def test_credentials_that_may_only_read_are_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = opened(tmp_path / "one")
    monkeypatch.setattr(Remote, "put", lambda self, content, key: (_ for _ in ()).throw(OSError("AWS Error ACCESS_DENIED")))
    with pytest.raises(WrongInput, match="store s3://lab/store cannot be written to: AWS Error ACCESS_DENIED"), driving(root):
        pass
    assert not (root / "lease.json").exists()


def test_two_processes_with_one_mirror_are_told_apart_too(tmp_path: Path, there: Path) -> None:
    root = opened(tmp_path / "one")
    with driving(root), pytest.raises(WrongInput, match="in use by another process of this machine"), driving(root):
        pass
    assert not list((there / "drivers").iterdir())


@pytest.mark.parametrize(("host", "pid", "silence"), [("elsewhere", 1, 61), (host(), 2**22 + 1, 0)])
def test_a_dead_driver_s_store_is_taken_over_and_its_writes_are_refused(
    tmp_path: Path, there: Path, host: str, pid: int, silence: float
) -> None:
    flag = raise_flag(there, host, pid)
    os.utime(flag, (time.time() - silence,) * 2)
    root = opened(tmp_path / "one")
    with driving(root):
        found = place_of(root)
        assert isinstance(found, Bucket) and not flag.exists()
        attempt = Attempt(root / "stages" / "x", token="token")
        attempt.begin(made=())
        attempt.check()
        found.driver = "0123"
        with pytest.raises(DriverLost, match="taken over the store s3://lab/store"):
            attempt.check()


def test_of_two_attempts_at_a_training_the_later_may_write(tmp_path: Path) -> None:
    folder = opened(tmp_path / "one") / "stages" / "cam-network-00112233aabb"
    first, second = (Attempt(folder, token=token) for token in ("first", "second"))
    first.begin(made=())
    first.check()
    second.begin(made=())
    second.check()
    with pytest.raises(LeaseLost, match="another attempt has taken over cam-network"), first.writing("network.pt") as file:
        file.write(b"of the first")
    assert not (folder / "network.pt").exists() and not list(folder.glob(".network*"))


def test_a_driver_sees_what_was_made_until_it_began(tmp_path: Path) -> None:
    root = opened(tmp_path / "two")
    stage(opened(tmp_path / "one"))
    buckets.clear()
    bucket.attach(root, ADDRESS, 1.0)
    with driving(root):
        assert (root / "stages" / "cam-maps-00112233aabb" / "manifest.json").exists()


def test_a_reader_leaves_the_mirror_of_a_running_launch_alone(tmp_path: Path) -> None:
    root = opened(tmp_path / "one")
    with driving(root):
        unpublished = root / "stages" / "x" / "manifest.json"
        unpublished.parent.mkdir(parents=True)
        unpublished.touch()
        bucket.open_bucket(root, ADDRESS)
        assert unpublished.exists()


@pytest.mark.parametrize("uri", ["s3://", "s3://lab/../x", "s3://lab//x"])
def test_an_address_must_name_a_place(uri: str) -> None:
    with pytest.raises(WrongInput, match="names no bucket"):
        address_of(uri)


def test_every_place_has_a_mirror_of_its_own() -> None:
    places = [Address(f"s3://{path}", server) for path in ("a/b", "a_b", "a/b/c") for server in ("", "http://a:1", "http://a:2")]
    assert len({bucket.mirror_folder(address) for address in places}) == len(places)


def test_a_failing_network_is_asked_again_and_a_refusal_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.01, 0.02))
    place, asked = Remote(ADDRESS, patience=5.0), list[str]()

    def answer(errors: list[str]) -> str:
        asked.append("")
        if errors:
            raise OSError(errors.pop())
        return "whole"

    errors = ["AWS Error NETWORK_CONNECTION", "AWS Error SLOW_DOWN", "AWS Error UNKNOWN (HTTP status 503)"]
    assert place._asked(lambda: answer(errors)) == "whole" and len(asked) == 4
    with pytest.raises(OSError, match="DENIED"):
        place._asked(lambda: answer(["AWS Error ACCESS_DENIED"]))
    assert len(asked) == 5
    with pytest.raises(OSError, match="NETWORK"):
        Remote(ADDRESS, patience=0.05)._asked(lambda: answer(["AWS Error NETWORK_CONNECTION"] * 99))
