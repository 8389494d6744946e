"""The shards of a per-item stage as Ray tasks: bounded in flight, and submitted again where a worker or its node is lost.

Ray tells at once of a worker that died, and after about a minute of a node that is silent. What such a node had in hand it
tells minutes later, when the connections to its workers time out; so whatever is in flight is submitted a second time as soon
as a node is gone, and the first result of each shard counts: a shard is the same whoever makes it.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

import psutil
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.engine.failures import ran_out
from orchestrator.engine.job import RETRIES, Ask, Done, Job, Tell, WorkerLost
from orchestrator.engine.places import places, width
from orchestrator.engine.shard_work import run_shard
from orchestrator.engine.spent import Spent

IN_FLIGHT = 2  # shards submitted per place: one runs, one waits
POLL = 0.5  # seconds between two looks whether the stage is to stop
LOOK = 5.0  # seconds between two looks at the nodes
SLIVER = 1e-4  # CPUs, the least that Ray tells apart
FAREWELL = 10.0  # seconds that the nodes have to end a stage's processes
STAGE = "WSSS_ORCH_STAGE"  # the environment variable that tells a stage's own processes


class ShardTasks:
    """The shards `indices` of a stage; `tell` is told of what is lost."""

    def __init__(self, job: Job, indices: Iterable[int], tell: Tell):
        self.job, self.tell, self.shared = job, tell, ray.put(job)
        self.waiting = deque(indices)
        self.left = set(self.waiting)
        self.running: dict[Any, int] = {}  # the shard of every task; two tasks may make one shard
        self.counted: set[Any] = set()  # the tasks that take up room: not those that may be on a lost node
        self.lost = Counter[int]()  # workers, by shard
        self.told = 0  # of how many losses of one shard
        self.nodes, self.dead, self.looked = living(), lost(), time.monotonic()
        self.gpus = job.uses_network() and any(node.get("GPU") for node in self.nodes.values())

    def run(self, done: Done, ask: Ask) -> None:
        """Make them all, calling `done` with the items of each and what it took, and now and then `ask`, which may raise."""
        try:
            while self.left:
                self._submit()
                for task in ray.wait(list(self.running), timeout=POLL)[0]:
                    self._take(task, done)
                self._look()
                ask()
        finally:
            for task in self.running:
                ray.cancel(task)
            if self.gpus:
                end_processes(self.job.attempt.token)

    def _submit(self) -> None:
        nodes = list(self.nodes.values())
        cpus = width(nodes, self.job.settings.get("extraction.threads", 1), self.gpus)
        # Ray queues tasks with equal needs together and asks a node for one worker at a time for them. If that node is lost, the
        # queue stands still for 100 s, until the connection times out; tasks with other needs have another queue
        options: dict[str, Any] = {"num_cpus": cpus - SLIVER * self.dead}
        if self.gpus:  # in processes of the stage's own, which can be ended after it
            options |= {"num_gpus": 1, "runtime_env": {"env_vars": {STAGE: self.job.attempt.token}}}
        room = IN_FLIGHT * max(places(nodes, cpus, self.gpus), 1)
        while self.waiting and len(self.counted) < room:
            if (index := self.waiting.popleft()) in self.left:
                task = _shard.options(**options).remote(self.shared, index, "cuda" if self.gpus else "cpu")
                self.running[task] = index
                self.counted.add(task)

    def _take(self, task: Any, done: Done) -> None:
        index = self.running.pop(task)
        self.counted.discard(task)
        if index not in self.left:  # the later one of two
            return
        try:
            items, spent = ray.get(task)
        except RayTaskError as error:
            logging.error("%s", error)  # with the worker's own traceback
            raise error.cause or error from None
        except RayError as error:
            self._again(index, error)
        else:
            self.left.remove(index)
            done(items, spent)

    def _again(self, index: int, error: RayError) -> None:
        """A shard's worker was lost: submit it once more, unless another task is at it."""
        logging.warning("%s", error)
        if index in self.running.values():
            return
        self.lost[index] += 1
        if self.lost[index] > RETRIES:
            raise WorkerLost(str(error)) from error
        if self.lost[index] > self.told:  # once for each round, however many there are
            self.told = self.lost[index]
            why = "out of memory" if ran_out(error) else "it died"
            self.tell(f"a worker was lost ({why}); its shard is made again, {self.told} of {RETRIES}")
        self.waiting.append(index)  # behind the others: memory may have become free meanwhile

    def _look(self) -> None:
        """Submit what is in flight a second time where a node is gone since the last look."""
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
    """End the processes that a stage had on GPUs: Ray would keep them, and count the memory of their networks as free."""
    strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node, has in living().items() if has.get("GPU")]
    tasks = [_end.options(scheduling_strategy=strategy).remote(token) for strategy in strategies]
    ray.wait(tasks, num_returns=len(tasks), timeout=FAREWELL)


# max_calls: a worker keeps its networks loaded from one shard to the next, on GPUs too, where Ray would end it after each
# max_retries: who submits a shard does so again, also where Ray does not know yet that its node is gone
@ray.remote(max_calls=0, max_retries=0)
def _shard(job: Job, index: int, device: str) -> tuple[int, Spent]:
    return run_shard(job, index, device)


@ray.remote(num_cpus=0, max_retries=0)
def _end(token: str) -> None:
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get(STAGE) == token:
            process.kill()
