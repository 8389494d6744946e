"""Runs the tiny plans of all cases in one store, so that what several cases need is made once, also by several processes."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from torch import nn

from maps.maps import StoredMaps
from orchestrator.engine import local_engine, stage_runner
from orchestrator.engine.context import context, load_network, stored
from orchestrator.engine.job import Input, Job
from orchestrator.engine.local_engine import LocalEngine
from orchestrator.engine.pipeline import Pipeline
from orchestrator.engine.progress import Display
from orchestrator.engine.stage_runner import Runner
from orchestrator.engine.training_work import prepared
from orchestrator.planning.experiment import Request
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.references import resolve
from orchestrator.storage.lease import LEASE, Lease
from orchestrator.storage.shards import StoredRecords
from orchestrator.storage.store import read_json, read_manifest
from tests.contracts.cases import Case, tiny
from tests.contracts.images import SALIENCY
from tests.planned_run import plan_of
from training.loop import train
from training.run import Run
from training.stage import PerImage, Record, Records, Training

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Trained:
    """What a training ended with: everything in its network, and its mean losses of each epoch."""

    training: Training
    history: list[dict[str, float]]

    @property
    def weights(self) -> State:
        return {name: values.cpu() for name, values in self.training.network.state_dict().items()}


@dataclass(frozen=True)
class Made:
    """A stage that was run: the job that made it, and what it left."""

    job: Job

    @property
    def records(self) -> Records | StoredMaps:
        """The records of a per-image stage: maps if its recipe names a reader, else named arrays."""
        return stored(self.job.folder, self.job.recipe.read)

    @property
    def arrays(self) -> StoredRecords:
        """The stored arrays of a per-image stage."""
        return StoredRecords(self.job.folder)

    @property
    def weights(self) -> State:
        return torch.load(self.job.folder / "network.pt", map_location="cpu", weights_only=True)

    @property
    def result(self) -> Any:
        """The result of a score: metrics, protocol and more."""
        return (read_manifest(self.job.folder) or {})["result"]

    @property
    def history(self) -> Any:
        return read_json(self.job.folder / "history.json")

    def network(self) -> nn.Module:
        """The saved network, as it reaches a training that reads it."""
        source = Input(self.job.attempt, self.job.recipe.network, self.job.settings)
        return load_network(source, self.job.classes, torch.device("cpu"))

    def one(self, device: str = "cpu", **inputs: object) -> Callable[[Any], Mapping[str, np.ndarray]]:
        """The function of one item of a per-image stage, with some of its inputs replaced."""
        where = context(self.job, device)
        return resolve(self.job.recipe.call)(replace(where, inputs={**where.inputs, **inputs}))

    def pipelined(self, device: str, batch: int) -> list[Record]:
        """The records of a per-image stage, made once more by a pipeline that computes up to `batch` images at once."""
        one = self.one(device)
        assert isinstance(one, PerImage)
        pipeline = Pipeline(self.job.name, one, cpus=2, batch=batch)
        try:
            (records,) = pipeline.records([self.job.parts()])
        finally:
            pipeline.close()
        return records

    def initial(self) -> State:
        """The network at the beginning of a training."""
        return {name: values.clone() for name, values in prepared(self.job, "cpu").network.state_dict().items()}

    def again(
        self,
        folder: Path,
        device: str = "cpu",
        random_seed: int = 0,
        stop_at: int | None = None,
        changed: Mapping[str, object] = {},
        rank: int = 0,
        world: int = 1,
    ) -> Trained:
        """Train once more, with some settings of the stage changed; raises Stopped before step `stop_at`.

        The checkpoint lies in `folder`: the same folder again goes on from it.
        """
        job = replace(self.job, random_seed=random_seed, settings={**self.job.settings, **changed})
        training, where = prepared(job, device), context(job, device)
        taken = iter(range(10**6))
        run = Run(
            where.purpose,
            folder,
            where.settings.training,
            where.device,
            rank,
            world,
            asked_to_stop=lambda: stop_at is not None and next(taken) == stop_at,
        )
        folder.mkdir(exist_ok=True)
        return Trained(training, train(training, job.items, run))


class Laboratory:
    """Makes what cases need on an image set, in one store."""

    def __init__(self, store: Path, images: Path, device: str = "cpu") -> None:
        self.store, self.images, self.device = store, images, device
        self._plans, self._made = dict[tuple[object, ...], Prepared](), dict[tuple[object, ...], Made]()

    def plan(self, case: Case, random_seed: int = 0, *changed: str) -> Prepared:
        """The plan of a case's expression."""
        asked = (*tiny(), f"images.saliency={self.images / SALIENCY}", *case.further, *changed)
        return plan_of(Request(case.expression, f"folder:{self.images}", case.segmenter, "", asked, random_seed, self.store))

    def planned(self, case: Case) -> Prepared:
        """The plan of a case's expression, made once."""
        known_as = case.expression, case.segmenter, case.further
        if known_as not in self._plans:
            self._plans[known_as] = self.plan(case)
        return self._plans[known_as]

    def made(self, case: Case) -> Made:
        """The case's stage, run once with all that it is made from."""
        known_as = case.expression, case.segmenter, case.further, case.stage.name
        if known_as not in self._made:
            plan = self.planned(case)
            plan.planner.store.open()
            (step,) = (step for step in plan.steps if step.stage.name == case.stage.name)
            runner = Runner(LocalEngine(), plan.planner, Display(Console(file=io.StringIO())))
            with patch.object(local_engine, "_device", lambda rank: self.device), patch.object(stage_runner, "POLL", 0.02):
                self._run(step, runner)
            self._made[known_as] = Made(runner._job(step, Lease(step.folder / LEASE, "")))  # another process may have made it
        return self._made[known_as]

    def readers(self, case: Case) -> list[Case]:
        """The per-image stages of the case's expression that read what its stage writes."""
        stages = [step.stage for step in self.planned(case).steps]
        return [
            replace(case, stage=stage)
            for stage in stages
            if stage.recipe.kind == "map" and any(source.name == case.stage.name for source in stage.inputs.values())
        ]

    def _run(self, step: PlannedStage, runner: Runner) -> None:
        for source in step.inputs.values():
            self._run(source, runner)
        runner.run(step)


def check_alike(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = 0.01) -> None:
    """Numbers must agree up to `tolerance`, a share of the largest (default: half precision); a few labels may differ."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        own = found[name]
        assert own.shape == array.shape and own.dtype == array.dtype, name
        if np.issubdtype(array.dtype, np.floating):
            most = float(np.abs(array).max(initial=1e-3))
            np.testing.assert_allclose(own.astype(float), array.astype(float), atol=tolerance * most, rtol=0, err_msg=name)
        else:
            assert (own == array).mean() >= 0.99 if array.size else True, name


def same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two sets of named arrays or tensors are equal, bit by bit."""
    return first.keys() == second.keys() and all(_equal(values, second[name]) for name, values in first.items())


def _equal(first: Any, second: Any) -> bool:
    return first.dtype == second.dtype and np.array_equal(*(np.asarray(values) for values in (first, second)))
