"""Runs stages on Ray: Ray Train for training, plain Ray tasks for per-item stages.

Results go straight to the store; Ray carries only jobs and figures. Our checkpoint in the stage's folder is the one recovery
system: a restarted worker group, a restarted driver and the local engine all continue from it.
"""

import logging
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.exceptions import RayError, RayTaskError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer

from imagesets.errors import WrongInput
from orchestrator.engine import orphans
from orchestrator.engine.job import RETRIES, Job, WorkerLost
from orchestrator.engine.ray_session import connected
from orchestrator.engine.shard_work import run_shard
from orchestrator.engine.spent import Spent
from orchestrator.engine.training_work import run_training
from orchestrator.storage.attached import mirror_of, remove_remote
from orchestrator.storage.driver import DriverLost
from orchestrator.storage.lease import LeaseLost
from orchestrator.storage.remote import file_system
from orchestrator.storage.trouble import StoreAbsent, require
from training.loop import Stopped

STARTS = 5  # minutes that a training waits for room on a cluster that has lost some: Ray tries once a minute, by default for ever
IN_FLIGHT = 2  # shards submitted per CPU: one runs, one waits
POLL = 0.5  # seconds between two looks whether the stage is to stop
FINAL = (WrongInput, LeaseLost, DriverLost, StoreAbsent)  # what another attempt at once would only meet again


class RayEngine:
    """A private Ray on this machine, or a running cluster at `address`."""

    name = "ray"

    def __init__(self, store: Path, address: str = "", workers: int = 1):
        self.store, self.address, self.workers = store, address, workers

    def __enter__(self) -> "RayEngine":
        orphans.reap(self.store)
        self.connection = connected(self.address, self.workers)
        self.connection.__enter__()
        self.note = orphans.record(self.store)
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.__exit__(None, None, None)
        self.note.unlink(missing_ok=True)

    @property
    def room(self) -> int:
        """Trainings that fit on the cluster side by side; a per-item stage uses what is free in any case."""
        resources = ray.cluster_resources()
        return max(int(resources.get("GPU", 0) or resources.get("CPU", 1)) // self.workers, 1)

    def map(self, job: Job, indices: Iterable[int], done: Callable[[int, Spent], None], ask: Callable[[], None]) -> None:
        """Run the shards `indices` of a per-item stage, bounded in flight, calling `done` with its items and what it took.

        `ask` is called every half second and may raise to end it. Raises WorkerLost where a shard loses worker after worker.
        """
        gpus = ray.cluster_resources().get("GPU", 0) if job.uses_network() else 0
        task = _shard.options(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=RETRIES)
        shared = ray.put(job)
        waiting = iter(indices)
        limit = IN_FLIGHT * max(int(gpus or ray.cluster_resources().get("CPU", 1)), 1)
        running: list[Any] = []
        try:
            while True:
                for index in islice(waiting, limit - len(running)):
                    running.append(task.remote(shared, index, "cuda" if gpus else "cpu"))
                if not running:
                    return
                ready, running = ray.wait(running, timeout=POLL)
                for reference in ready:
                    done(*ray.get(reference))
                ask()
        except RayTaskError as error:
            logging.error("%s", error)  # with the worker's own traceback
            raise error.cause or error from None
        except RayError as error:
            raise WorkerLost(str(error)) from error
        finally:
            for reference in running:
                ray.cancel(reference)

    def train(self, job: Job) -> Spent:
        """Run a training stage under Ray Train; what all workers spent. Raises WorkerLost where another attempt may do."""
        try:
            return self._fit(job)
        except (TrainingFailedError, RayError) as error:
            logging.error("%s", error)  # with the workers' own tracebacks
            causes = _causes(error)
            if _may_pass(causes):
                raise WorkerLost("; ".join(str(cause) for cause in causes)) from error
            told = [cause for cause in causes if not isinstance(cause, RayError)]
            raise next((cause for cause in told if isinstance(cause, FINAL)), told[0] if told else error) from None

    def _fit(self, job: Job) -> Spent:
        """One attempt; its Ray run has a fresh name, because Ray would otherwise continue from its own snapshot."""
        workers, nodes = job.settings["training.workers"], [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus, gpus = worker_needs(workers, job.settings["training.threads"], nodes)
        require(self.store)  # Ray would make the folder for its notes anew
        name = f"{job.folder.name}-{secrets.token_hex(8)}"
        waiting = FailureConfig(controller_failure_limit=STARTS)  # type: ignore[call-arg]  # the annotation is Ray Train 1's
        trainer = TorchTrainer(
            _train_worker,  # type: ignore[arg-type]  # its return value is what Ray's annotation forgot
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=bool(gpus), resources_per_worker={"CPU": cpus, **gpus}),
            run_config=RunConfig(name=name, failure_config=waiting, **self._notes()),
        )
        try:  # stages never run in the main thread, where fit() would put its own handler of Ctrl-C in place of ours
            return trainer.fit().return_value  # type: ignore[attr-defined]
        finally:
            remove_remote(self.store / "ray" / name)  # Ray's own notes, which nobody reads again
            shutil.rmtree(self.store / "ray" / name, ignore_errors=True)

    def _notes(self) -> dict[str, Any]:
        """Where Ray Train keeps its notes: in the store, as that is where all nodes can write."""
        if mirror := mirror_of(self.store):
            address = mirror.remote.address
            return {"storage_path": f"{address.path}/ray", "storage_filesystem": file_system(address)}
        return {"storage_path": str(self.store / "ray")}


def worker_needs(workers: int, threads: int, nodes: Sequence[Mapping[str, float]]) -> tuple[int, dict[str, int]]:
    """CPUs and GPUs of each of so many training workers, by what each living node has.

    Raises WrongInput where they do not fit, since Ray would wait for ever.
    """
    gpus = {"GPU": 1} if any(node.get("GPU") for node in nodes) else {}
    hosts = [node for node in nodes if node.get("GPU") or not gpus]
    room = [int(node.get("CPU", 0)) for node in hosts]
    cpus = max(min(threads, sum(room) // workers, max(room, default=0)), 1)
    while cpus > 1 and _places(hosts, cpus) < workers:  # fewer CPUs each, where that lets more of them fit a node
        cpus -= 1
    if workers > (places := _places(hosts, cpus)):
        raise WrongInput(f"training.workers={workers}, but the cluster has {places} {'GPUs' if gpus else 'CPUs'}")
    return cpus, gpus


def _places(nodes: Sequence[Mapping[str, float]], cpus: int) -> int:
    return sum(int(min(node.get("GPU", node.get("CPU", 0)), node.get("CPU", 0) // cpus)) for node in nodes)


def _causes(error: Exception) -> list[Exception]:
    """What each worker failed on, or what Ray Train's controller did."""
    if isinstance(error, WorkerGroupError):
        return list(error.worker_failures.values())
    return [error.controller_failure if isinstance(error, ControllerError) else error]


def _may_pass(causes: list[Exception]) -> bool:
    """Whether another attempt may succeed: a worker died, or lost one that did, and nobody refused what it was given."""
    refused = any(isinstance(cause, FINAL) for cause in causes)
    died = any(isinstance(cause, RayError) for cause in causes)
    cut_off = any("onnection" in str(cause) for cause in causes)  # how gloo and NCCL tell that a peer is gone
    return not refused and (died or cut_off)


@ray.remote(max_calls=0)  # a worker keeps its networks loaded from one shard to the next, on GPUs too
def _shard(job: Job, index: int, device: str) -> tuple[int, Spent]:
    return run_shard(job, index, device)


def _train_worker(config: dict[str, Any]) -> Spent:
    context = train.get_context()
    device = str(train.torch.get_device())
    rank, world = context.get_world_rank(), context.get_world_size()
    try:
        return run_training(config["job"], rank, world, device)
    except Stopped:
        return Spent()  # asked for: not a failure to retry; the runner sees that there is no network yet
