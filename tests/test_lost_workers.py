"""Lost workers and lack of memory: the runner tries a few times, each time with a new token, then ends with a sentence."""

from pathlib import Path

import pytest
import torch

from imagesets.errors import WrongInput
from imagesets.image_set import ImageSet
from orchestrator.engine.job import RETRIES, Job, WorkerLost
from orchestrator.engine.spent import Spent
from orchestrator.storage.lease import LeaseLost
from tests.conftest import write_image_set
from tests.finished_run import PretendEngine, finished_run

SHORT = "Task was killed due to the node running low on memory."  # Ray's words


class LosingEngine(PretendEngine):
    """Loses the workers of its first trainings."""

    losses = 2
    why = "its node died"

    def __init__(self, images: ImageSet):
        super().__init__(images)
        self.jobs: list[Job] = []
        LosingEngine.last = self

    def train(self, job: Job) -> Spent:
        job.attempt.check()
        for earlier in self.jobs:
            with pytest.raises(LeaseLost):  # what still runs of it on a node that is merely cut off
                earlier.attempt.check()
        self.jobs.append(job)
        if len(self.jobs) <= self.losses:
            raise WorkerLost(self.why)
        return super().train(job)

    last: "LosingEngine"


class StarvedEngine(LosingEngine):
    """Always runs out of memory in training."""

    losses = 99
    why = SHORT


class NarrowEngine(PretendEngine):
    """Runs out of memory in a per-image stage."""

    def map(self, job, *more):  # type: ignore[no-untyped-def]
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_a_training_whose_workers_are_lost_is_tried_anew_and_the_old_ones_can_write_no_more(tmp_path: Path) -> None:
    finished_run(tmp_path / "store", write_image_set(tmp_path / "images"), "cam+none", LosingEngine)
    jobs = LosingEngine.last.jobs
    assert [job.name for job in jobs] == ["cam-network"] * 3 + ["deeplabv2-segmenter"]  # the third counts: it is not made again
    assert len({job.attempt.token for job in jobs}) == 4


def test_a_training_that_always_runs_out_of_memory_ends_after_four_tries_with_a_sentence(tmp_path: Path) -> None:
    images = write_image_set(tmp_path / "images")
    with pytest.raises(WrongInput, match=r"^out of memory in cam-network: lower cam.batch, cam.crop, .*same command continues"):
        finished_run(tmp_path / "store", images, "cam+none", StarvedEngine)
    assert len(LosingEngine.last.jobs) == RETRIES + 1
    assert not list(tmp_path.glob("store/stages/*/lease.json"))
    finished_run(tmp_path / "store", images, "cam+none")


def test_a_per_image_stage_that_runs_out_of_memory_says_what_to_lower(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"^out of memory in cam-maps: lower cam.scales, extraction.batch, how many .*20.00 GiB"):
        finished_run(tmp_path / "store", write_image_set(tmp_path / "images"), "cam+none", NarrowEngine)
