"""A finished run in a store of its own. The real code plans and scores it; its trainings and maps are made up.

The stages that would take minutes get plausible records made from the masks; evaluations are computed from those as ever.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from scipy.ndimage import gaussian_filter

from imagesets.image_set import ImageSet
from imagesets.item import VOID, read_label_map
from maps.maps import Maps
from methods import amn
from orchestrator.engine.context import settings_of
from orchestrator.engine.job import Job
from orchestrator.engine.progress import Display
from orchestrator.engine.shard_work import run_shard
from orchestrator.engine.spent import Spent
from orchestrator.engine.stage_runner import Runner
from orchestrator.planning.experiment import Request
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.references import resolve
from orchestrator.reading.results import write_results
from orchestrator.storage.store import write_json
from tests.planned_run import plan_of
from training.randomness import generator, seed_torch


class PretendEngine:
    """An engine that makes up trainings and maps; evaluations and imports are real."""

    name = "pretend"
    room = 1

    def __init__(self, images: ImageSet):
        self.masks = images.masks().paths

    def map(self, job: Job, indices: list[int], *more: object) -> Iterator[tuple[int, Spent]]:
        for index in indices:
            if job.recipe.store == "sum" or job.recipe.check:
                yield run_shard(job, index, "cpu")
                continue
            parts = job.shards()[index]
            if job.recipe.over == "classes":
                records = {job.name_of(part): self._fitted(job, part) for part in parts}
            else:
                records = {part.id: self._record(job, part.id) for part in parts}
            job.attempt.write_shard(index, records)
            yield len(parts), Spent(cpu=0.5 * len(parts), memory=3e8)

    def train(self, job: Job) -> Spent:
        rng = generator(*_purpose(job))
        falling = [
            {"epoch": epoch, "classification": 0.7 / epoch + 0.05 * rng.random(), "other": 0.2 / epoch} for epoch in range(1, 9)
        ]
        (job.folder / "network.pt").write_bytes("\n".join(map(str, _purpose(job))).encode())
        write_json(job.folder / "history.json", falling)
        return Spent(cpu=100.0, memory=1.2e9)

    def _fitted(self, job: Job, class_index: int) -> dict[str, np.ndarray]:
        """Two prototypes of a class, closest to the middle of the first image that shows the class."""
        having = [item.id for item in job.items if class_index in item.labels][:1]
        return {"prototypes": np.ones((2, 4)), "images": np.array([having] * 2, str), "places": np.full((2, len(having), 2), 0.5)}

    def _record(self, job: Job, image: str) -> dict[str, np.ndarray]:
        rng = generator(*_purpose(job), image)
        truth = read_label_map(self.masks[image])
        keys = np.array([value - 1 for value in np.unique(truth) if 0 < value < VOID])
        noise = 0.15 * gaussian_filter(rng.standard_normal((len(keys), *truth.shape)), (0, 6, 6)) * 6
        soft = np.stack([gaussian_filter((truth == key + 1).astype(float), 4) for key in keys]) + noise
        if job.recipe.writes == "maps":
            if job.recipe.read != "methods.amn:read":
                return Maps(keys, truth.shape, (soft[:, ::4, ::4],)).arrays()
            logits = np.full((len(job.classes) + 1, *truth.shape), -5.0)
            logits[[0, *(keys + 1)]] = [0 * soft[0], *(8 * soft - 4)]
            return amn.kept(keys, [logits[:, ::4, ::4]], truth).arrays()
        label = np.where(soft.max(0) > 0.5, keys[soft.argmax(0)] + 1, 0)
        return {"label": label.astype(np.uint8)}


def _purpose(job: Job) -> tuple[object, ...]:
    """The purpose of a made-up result's random numbers: other settings, random seeds and inputs give other scores."""
    return job.name, job.random_seed, job.attempt.made_from, sorted(job.settings.items())


class UntrainedSegmenter(PretendEngine):
    """Delivers the untrained segmenter; its predictions are real."""

    def map(self, job: Job, indices: list[int], *more: object) -> Iterator[tuple[int, Spent]]:
        if job.recipe.writes != "predictions":
            return super().map(job, indices, *more)
        return (run_shard(job, index, "cpu") for index in indices)

    def train(self, job: Job) -> Spent:
        spent = super().train(job)
        if job.recipe.writes == "segmenter":
            seed_torch(0)
            network = resolve(job.recipe.network)(settings_of(job.settings), job.classes)
            torch.save(network.state_dict(), job.folder / "network.pt")
        return spent


def finished_run(
    store: Path, images: Path, method: str = "lpcam+amn", engine: type[PretendEngine] = PretendEngine, **asked: Any
) -> tuple[Prepared, dict[str, Any], Path]:
    """Plan `method` on `images` and carry it out in `store`; returns the plan, its results and the run's folder.

    `asked` are further fields of the request.
    """
    request = Request(method, f"folder:{images}", **{"segmenter": "deeplabv2-small", **asked}, store=store)
    prepared = plan_of(request, make=True)
    prepared.planner.store.open()
    runner = Runner(engine(prepared.images), prepared.planner, Display(Console(file=io.StringIO())))
    for step in prepared.steps:
        runner.run(step)
    results, folder = write_results(prepared)
    return prepared, results, folder
