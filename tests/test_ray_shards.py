"""Shards as Ray tasks: a lost worker's or node's shards are made again and counted once; processes on GPUs end with the stage."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from orchestrator.engine.job import RETRIES, WorkerLost
from orchestrator.engine.spent import Spent

ray = pytest.importorskip("ray")
ray_shards = pytest.importorskip("orchestrator.engine.ray_shards")
NODES = {name: {"CPU": 1.0} for name in "abc"}


def job(**settings: Any) -> Any:
    """The part of a job that the tests need."""
    return SimpleNamespace(settings=settings, attempt=SimpleNamespace(token="0123"), uses_network=bool, takes_cores=bool)


class PretendRay:
    """A Ray whose nodes have one CPU and do one task after the other; a silent node never ends a task.

    Tasks with equal needs are in one queue. A queue that is older than the loss of a node stands still, as Ray's does for 100 s.
    """

    def __init__(self, lives: dict[str, Any]):
        self.lives, self.silent, self.cancelled = lives, set[str](), list[Any]()
        self.seen, self.queues, self.stuck = dict(lives), dict[float, int](), set[int]()
        self.asked: list[tuple[str, int]] = []  # node and shard of every task
        self.errors: list[Exception] = []

    def options(self, **options: Any) -> "PretendRay":
        self.given = options
        return self

    def remote(self, shared: Any, index: int, device: str, cpus: int) -> int:
        nodes = sorted(self.lives)
        self.asked.append((nodes[len(self.asked) % len(nodes)], index))
        task, dead = len(self.asked) - 1, ray_shards.lost()
        if self.queues.setdefault(self.given["num_cpus"], dead) < dead:
            self.stuck.add(task)
        return task

    def nodes(self) -> list[dict[str, Any]]:
        self.seen |= self.lives
        return [{"NodeID": name, "Alive": name in self.lives, "Resources": has} for name, has in self.seen.items()]

    def wait(self, tasks: list[int], timeout: float) -> tuple[list[int], list[int]]:
        return [task for task in tasks if self.asked[task][0] not in self.silent and task not in self.stuck][:1], []

    def get(self, task: int) -> tuple[int, Spent]:
        if self.errors:
            raise self.errors.pop()
        return self.asked[task][1], Spent()

    def cancel(self, task: int) -> None:
        self.cancelled.append(task)

    def put(self, value: Any) -> Any:
        return value


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> PretendRay:
    made = PretendRay(dict(NODES))
    monkeypatch.setattr(ray_shards, "ray", made)
    monkeypatch.setattr(ray_shards, "_shard", made)
    monkeypatch.setattr(ray_shards, "LOOK", 0.0)
    return made


def run(count: int, ask: Callable[[], None] = lambda: None, **settings: Any) -> tuple[list[int], list[str]]:
    """Run a stage; returns the shards in the order in which they were made, and the messages."""
    made, told = list[int](), list[str]()
    made.extend(items for items, _ in ray_shards.ShardTasks(job(**settings), range(count), told.append).run(ask))
    return made, told


def test_what_a_lost_node_had_is_made_again_by_the_others_and_counts_once(pretend: PretendRay) -> None:
    rounds = 0

    def ask() -> None:
        nonlocal rounds
        rounds += 1
        assert rounds < 1000, "the stage stands still"
        if rounds == 2:
            pretend.silent.add("b")
        if rounds == 12:  # Ray has noticed
            del pretend.lives["b"]

    made, told = run(20, ask)
    assert sorted(made) == list(range(20))
    assert told == ["1 of 3 nodes lost; what was in flight is made again, 6 shards at most"]
    assert {node for node, _ in pretend.asked[-6:]} == {"a", "c"}
    assert pretend.cancelled  # what the lost node still has


def test_tasks_on_lost_nodes_take_up_no_room(pretend: PretendRay) -> None:
    pretend.silent = set("abc")
    waits = iter([lambda: None, lambda: (pretend.lives.clear(), pretend.lives.update(d={"CPU": 1.0}))])
    made, _ = run(6, lambda: next(waits, lambda: None)())
    assert sorted(made) == list(range(6))


def test_a_shard_that_loses_worker_after_worker_ends_the_stage_and_each_round_is_told_once(pretend: PretendRay) -> None:
    error = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")
    pretend.errors = [error] * 2
    made, told = run(2)
    assert sorted(made) == [0, 1] and told == ["a worker was lost (out of memory); its shard is made again, 1 of 3"]
    pretend.errors = [error] * 99
    with pytest.raises(WorkerLost, match="low on memory"):
        run(1)
    assert len(pretend.errors) == 99 - RETRIES - 1


def test_threads_are_told_to_ray_as_cpus_and_bound_what_is_in_flight(pretend: PretendRay) -> None:
    pretend.lives = pretend.seen = {"a": {"CPU": 8.0}}
    pretend.silent = {"a"}
    begun: list[int] = []

    class Enough(Exception):
        pass

    def ask() -> None:
        begun.append(len(pretend.asked))
        raise Enough

    with pytest.raises(Enough):
        run(99, ask, **{"extraction.threads": 4})
    assert begun == [4] and pretend.given == {"num_cpus": 4}


def test_tasks_share_a_gpu_and_take_the_cpus_that_their_pipelines_use(
    pretend: PretendRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_shards, "end_processes", lambda token: None)
    pretend.lives = pretend.seen = {"a": {"CPU": 16.0, "GPU": 1.0}}
    for cores, cpus in ((False, 3), (True, 8)):
        stage = job()
        stage.uses_network, stage.takes_cores = lambda: True, lambda cores=cores: cores
        assert len(list(ray_shards.ShardTasks(stage, range(9), print).run(lambda: None))) == 9
        assert (pretend.given["num_cpus"], pretend.given["num_gpus"]) == (cpus, 0.5)


@pytest.fixture
def fake_gpu() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_the_processes_of_a_stage_on_gpus_are_its_own_and_end_with_it(
    fake_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU that Ray is told of. Each shard notes its process; the first shard's process dies once."""

    def noting(job: Any, index: int, device: str, cpus: int) -> tuple[int, Spent]:
        assert (device, cpus) == ("cuda", 1)
        (tmp_path / f"{index}-{os.getpid()}").touch()
        if index == 0 and len(list(tmp_path.glob("0-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1, Spent()

    monkeypatch.setattr(ray_shards, "_shard", ray.remote(max_calls=0, max_retries=0)(noting))
    stage = job()
    stage.uses_network = lambda: True
    told = list[str]()
    made = list(ray_shards.ShardTasks(stage, range(8), told.append).run(lambda: None))
    processes = {int(path.name.partition("-")[2]) for path in tmp_path.iterdir()}
    assert len(made) == 8 and len(told) == 1 and len(processes) == 2  # the second did all the others
    psutil.wait_procs([psutil.Process(one) for one in processes if psutil.pid_exists(one)], timeout=10)
    assert not [one for one in processes if psutil.pid_exists(one)]


def test_a_process_of_a_stage_that_ends_by_itself_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = psutil.Popen(["true"])
    ended.wait()
    ended.info = {"environ": {ray_shards.STAGE: "0123"}}
    monkeypatch.setattr(psutil, "process_iter", lambda fields: [ended])
    ray_shards._end._function("0123")


def test_ray_ends_if_the_note_of_its_processes_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.engine import ray_engine

    told: list[str] = []

    @contextmanager
    def connected(*given: Any) -> Iterator[None]:
        try:
            yield
        finally:
            told.append("ended")

    monkeypatch.setattr(ray_engine, "connected", connected)
    monkeypatch.setattr(ray_engine.orphans, "record", lambda store: (tmp_path / "absent" / "note.json").write_text(""))
    engine = ray_engine.RayEngine(tmp_path)
    with pytest.raises(FileNotFoundError):
        engine.__enter__()
    assert told == ["ended"]
