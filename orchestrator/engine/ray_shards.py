"""The shards of a per-item stage as Ray tasks, a bounded number at once; a shard whose worker or node is lost is submitted again.

Ray reports a dead worker at once, and a silent node after about a minute. It reports that node's tasks minutes later, when the
connections to its workers time out. So when a node is gone, all shards in flight are submitted a second time. The first result
of a shard counts, because a shard is the same whoever makes it.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psutil
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.engine.capacity import fitting, gpu_task, task_cpus
from orchestrator.engine.failures import ran_out
from orchestrator.engine.interrupt import kill
from orchestrator.engine.job import RETRIES, Ask, Job, Tell, WorkerLost
from orchestrator.engine.shard_work import run_shard
from orchestrator.engine.spent import Spent

IN_FLIGHT = 2  # tasks submitted for each one that has room to run: one runs, one waits
POLL = 0.5  # seconds between two calls of `ask`
LOOK = 5.0  # seconds between two looks at the nodes
SLIVER = 1e-4  # CPUs, the least that Ray tells apart
FAREWELL = 10.0  # seconds that nodes have to end the processes of a stage
STAGE = "WSSS_ORCH_STAGE"  # an environment variable that marks the processes of one stage


class ShardTasks:
    """The shards `indices` of a stage; `tell` is called for lost workers and nodes."""

    def __init__(self, job: Job, indices: Iterable[int], tell: Tell):
        self.job, self.tell, self.shared = job, tell, ray.put(job)
        self.waiting = deque(indices)
        self.left = set(self.waiting)
        self.running: dict[Any, int] = {}  # tasks and their shards; two tasks may make one shard
        self.counted: set[Any] = set()  # tasks that take up room; those that may be on a lost node do not
        self.lost = Counter[int]()  # number of lost workers, by shard
        self.told = 0  # the highest number of lost workers of one shard that was told
        self.nodes, self.dead, self.looked = living(), lost(), time.monotonic()
        self.gpus = job.uses_network() and any(node.get("GPU") for node in self.nodes.values())

    def run(self, ask: Ask) -> Iterator[tuple[int, Spent]]:
        """Make all shards; yields the number of items of each and what it took. `ask` may raise to end this."""
        try:
            while self.left:
                self._submit()
                for task in ray.wait(list(self.running), timeout=POLL)[0]:
                    if made := self._take(task):
                        yield made
                self._look()
                ask()
        finally:
            for task in self.running:
                ray.cancel(task)
            if self.gpus:
                end_processes(self.job.attempt.token)

    def _submit(self) -> None:
        nodes, threads = list(self.nodes.values()), self.job.settings.get("extraction.threads", 1)
        cpus, share = gpu_task(nodes, threads, self.job.takes_cores()) if self.gpus else (task_cpus(nodes, threads, False), 0.0)
        # Ray queues tasks with equal needs together and asks a node for one worker at a time for them. If that node is lost, the
        # queue stands still for 100 s, until the connection times out. Tasks with other needs have another queue
        options: dict[str, Any] = {"num_cpus": cpus - SLIVER * self.dead}
        if self.gpus:  # in processes of this stage alone, so that they can be ended after it
            options |= {"num_gpus": share, "runtime_env": {"env_vars": {STAGE: self.job.attempt.token}}}
        room = IN_FLIGHT * max(fitting(nodes, cpus, share), 1)
        where = ("cuda", cpus) if self.gpus else ("cpu", 0)
        while self.waiting and len(self.counted) < room:
            if (index := self.waiting.popleft()) in self.left:
                task = _shard.options(**options).remote(self.shared, index, *where)
                self.running[task] = index
                self.counted.add(task)

    def _take(self, task: Any) -> tuple[int, Spent] | None:
        """The result of a task that has ended, None if its shard is already made or must be made again."""
        index = self.running.pop(task)
        self.counted.discard(task)
        if index not in self.left:  # another task has made it
            return None
        try:
            made = ray.get(task)
        except RayTaskError as error:
            logging.error("%s", error)  # with the worker's own traceback
            raise error.cause or error from None
        except RayError as error:
            self._again(index, error)
            return None
        self.left.remove(index)
        return made

    def _again(self, index: int, error: RayError) -> None:
        """Submit a shard whose worker was lost once more, unless another task is making it."""
        logging.warning("%s", error)
        if index in self.running.values():
            return
        self.lost[index] += 1
        if self.lost[index] > RETRIES:
            raise WorkerLost(str(error)) from error
        if self.lost[index] > self.told:  # tell it once, however many shards are lost for as many times
            self.told = self.lost[index]
            why = "out of memory" if ran_out(error) else "it died"
            self.tell(f"a worker was lost ({why}); its shard is made again, {self.told} of {RETRIES}")
        self.waiting.append(index)  # last, because memory may be free by then

    def _look(self) -> None:
        """Submit all shards in flight a second time if a node is gone since the last look."""
        if time.monotonic() - self.looked < LOOK:
            return
        before = self.nodes
        self.nodes, self.dead, self.looked = living(), lost(), time.monotonic()
        if gone := before.keys() - self.nodes.keys():
            again = self.left & set(self.running.values())
            self.tell(f"{len(gone)} of {len(before)} nodes lost; what was in flight is made again, {len(again)} shards at most")
            self.waiting.extendleft(again)
            self.counted.clear()


def living() -> dict[str, Mapping[str, float]]:
    """The resources of every living node by its id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def lost() -> int:
    """The number of nodes that this cluster has lost since it began."""
    return sum(not node["Alive"] for node in ray.nodes())


def end_processes(token: str) -> None:
    """End the processes that a stage has on GPUs. Ray would keep them and count the memory of their networks as free."""
    strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node, has in living().items() if has.get("GPU")]
    tasks = [_end.options(scheduling_strategy=strategy).remote(token) for strategy in strategies]
    ray.wait(tasks, num_returns=len(tasks), timeout=FAREWELL)


# max_calls=0: a worker keeps its networks loaded between shards; by default Ray ends a worker on a GPU after each task
# max_retries=0: ShardTasks submits lost shards again, also before Ray knows that a node is gone
@ray.remote(max_calls=0, max_retries=0)
def _shard(job: Job, index: int, device: str, cpus: int) -> tuple[int, Spent]:
    return run_shard(job, index, device, cpus=cpus)


@ray.remote(num_cpus=0, max_retries=0)
def _end(token: str) -> None:
    kill(one for one in psutil.process_iter(["environ"]) if (one.info["environ"] or {}).get(STAGE) == token)
