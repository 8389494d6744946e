"""Runs stages on Ray: trainings with Ray Train, per-item stages as plain Ray tasks.

Results go straight to the store; Ray carries only jobs and figures. The only recovery system is our checkpoint in the stage's
folder: a restarted worker group, a restarted driver and the local engine all continue from it.
"""

import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.exceptions import RayError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

from imagesets.errors import WrongInput
from orchestrator.engine import orphans
from orchestrator.engine.capacity import worker_needs
from orchestrator.engine.failures import counting
from orchestrator.engine.job import Ask, Job, Tell, WorkerLost
from orchestrator.engine.ray_session import connected
from orchestrator.engine.ray_shards import ShardTasks, living
from orchestrator.engine.spent import Spent
from orchestrator.engine.training_work import run_training
from orchestrator.storage.place import place_of
from orchestrator.storage.trouble import require

STARTS = 5  # minutes that a training waits for room after nodes were lost: Ray tries once a minute, by default for ever


class _Trainer(TorchTrainer):
    """Ray Train without three processes, each of a second and a hundred megabytes.

    One serves data sets of Ray, of which there are none. The others have nothing to do on a private Ray: one takes the workers'
    places back after their driver died, which ends them all there, and one asks an autoscaler for more nodes.
    """

    private = False

    def _create_default_callbacks(self) -> list[Any]:
        # by name, because Ray's versions have the classes in different places
        unneeded = {"DatasetsCallback"} | ({"PlacementGroupCleanerCallback"} if self.private else set())
        every = super()._create_default_callbacks()  # type: ignore[misc]  # of Ray Train 2, which mypy does not see
        return [callback for callback in every if type(callback).__name__ not in unneeded]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        if self.private:
            parts["scaling_policy"] = _FixedPlaces(self.scaling_config)  # type: ignore[arg-type]  # the annotation is Ray Train 1's
        return super()._initialize_and_run_controller(**parts)  # type: ignore[misc]


class _FixedPlaces(FixedScalingPolicy):
    """A fixed number of workers, of which no autoscaler is told."""

    def after_controller_start(self, train_run_context: object) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class RayEngine:
    """A private Ray on this machine, or a running cluster at `address`."""

    name = "ray"

    def __init__(self, store: Path, address: str = "", workers: int = 1):
        self.store, self.address, self.workers = store, address, workers
        self.nodes: dict[str, Mapping[str, float]] = {}  # all nodes that were ever seen: a lost one may come back

    def __enter__(self) -> "RayEngine":
        orphans.reap(self.store)
        with ExitStack() as opened:  # which ends Ray if the note cannot be written
            opened.enter_context(connected(self.address, self.workers))
            self.note = orphans.record(self.store)
            self.connection = opened.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.close()
        self.note.unlink(missing_ok=True)  # if Ray did not end, the note stays, and a later launch ends what is left

    @property
    def room(self) -> int:
        """The number of trainings that fit on the cluster side by side; a per-item stage uses whatever is free."""
        resources = ray.cluster_resources()
        return max(int(resources.get("GPU", 0) or resources.get("CPU", 1)) // self.workers, 1)

    def map(self, job: Job, indices: Iterable[int], ask: Ask, tell: Tell) -> Iterator[tuple[int, Spent]]:
        """Make the shards `indices` of a per-item stage; yields the number of items of each and what it took.

        `ask` is called every half second, `tell` for lost workers and nodes. Raises WorkerLost if a shard loses too many workers.
        """
        try:
            yield from ShardTasks(job, indices, tell).run(ask)
        except RayError as error:
            raise WorkerLost(str(error)) from error

    def train(self, job: Job) -> Spent:
        """Run a training stage under Ray Train; returns what all workers spent.

        Raises WorkerLost if another attempt may succeed.
        """
        try:
            return self._fit(job)
        except (TrainingFailedError, RayError) as error:
            logging.error("%s", error)  # with the workers' own tracebacks
            raise counting(failures(error)) from error

    def _fit(self, job: Job) -> Spent:
        """One attempt, as a Ray run with a new name; under an old name Ray would continue from its own snapshot."""
        workers = job.settings["training.workers"]
        cpus, gpus = self._needs(workers, job.settings["training.threads"], job.settings["training.loaders"])
        require(self.store)  # Ray would make the folder for its notes again
        notes = self.store / "ray" / f"{job.folder.name}-{secrets.token_hex(8)}"  # in the store: all nodes can write there
        storage, file_system = place_of(notes).for_pyarrow(notes.parent)
        waiting = FailureConfig(controller_failure_limit=STARTS)  # type: ignore[call-arg]  # the annotation is Ray Train 1's
        trainer = _Trainer(
            _train_worker,  # type: ignore[arg-type]  # its return value is what Ray's annotation forgot
            train_loop_config={"job": job, "cores": cpus},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=bool(gpus), resources_per_worker={"CPU": cpus, **gpus}),
            run_config=RunConfig(notes.name, storage, file_system, failure_config=waiting),
        )
        trainer.private = not self.address
        try:  # stages never run in the main thread, where fit() would put its own handler of Ctrl-C in place of ours
            return trainer.fit().return_value  # type: ignore[attr-defined]
        finally:
            with suppress(OSError):  # nobody reads them again
                place_of(notes).remove_folder(notes)

    def _needs(self, workers: int, threads: int, loaders: int | None) -> tuple[int, dict[str, int]]:
        """CPUs and GPUs of each worker. If lost nodes are needed too, they are counted, and Ray waits for new ones."""
        now = living()
        self.nodes |= now
        try:
            return worker_needs(workers, threads, list(now.values()), loaders)
        except WrongInput:
            return worker_needs(workers, threads, list(self.nodes.values()), loaders)


def failures(error: Exception) -> list[Exception]:
    """The errors of the workers, or that of Ray Train's controller; an error of Ray itself becomes WorkerLost."""
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        return [_failure(error.worker_failures[rank]) for rank in sorted(error.worker_failures)]
    return [_failure(error.controller_failure if isinstance(error, ControllerError) else error)]


def _failure(error: Exception) -> Exception:
    if isinstance(error, WorkerHealthCheckFailedError):  # Ray Train can no longer reach a worker
        return _failure(error.health_check_failure)
    if isinstance(error, WorkerGroupStartupTimeoutError):
        return WrongInput(
            f"the cluster had no room for {error.num_workers} training workers in {STARTS} minutes; `ray status` shows what it "
            "has, and with enough nodes the same command continues"
        )
    lost = isinstance(error, (RayError, WorkerHealthCheckTimeoutError, TrainingFailedError))
    return WorkerLost(str(error)) if lost else error


def _train_worker(config: dict[str, Any]) -> Spent:
    context = train.get_context()
    device = str(train.torch.get_device())
    return run_training(config["job"], context.get_world_rank(), context.get_world_size(), device, config["cores"])
