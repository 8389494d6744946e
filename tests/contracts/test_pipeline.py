"""Every per-image stage that may be a pipeline makes in it what it makes image by image."""

import multiprocessing
import threading
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.engine import job
from orchestrator.engine.makers import forget
from orchestrator.engine.shard_work import run_shards
from orchestrator.engine.spent import Spent
from orchestrator.storage.result import Attempt
from tests.contracts.laboratory import Laboratory, Made, same
from tests.contracts.test_gpu import PIPELINED, check_alike
from training.loop import Stopped
from training.stage import PerImage

# processes of their own take seconds to start, so the stages that finish images in them are slow
CASES = [pytest.param(case, marks=[pytest.mark.slow] * bool(case.stage.recipe.cores_unless), id=case.name) for case in PIPELINED]


@pytest.fixture(params=CASES)
def made(request: pytest.FixtureRequest, laboratory: Laboratory) -> Made:
    """The stage, made image by image."""
    made = laboratory.made(request.param)
    if not isinstance(made.one("cpu"), PerImage):
        pytest.skip("a plain function, which goes through no pipeline")
    return made


def test_with_batches_of_one_it_makes_the_same_bits(made: Made) -> None:
    for item, found in zip(made.job.parts(), made.pipelined("cpu", batch=1), strict=True):
        assert same(found, made.arrays[item.id])


def test_with_larger_batches_it_makes_the_same_within_rounding(made: Made) -> None:
    for item, found in zip(made.job.parts(), made.pipelined("cpu", batch=4), strict=True):
        check_alike(found, made.arrays[item.id])


def shards_of(made: Made, monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[dict[int, Any], list[tuple[int, Spent]]]:
    """The shards, of three images each, that are written if a stage is made once more; and what that reports."""
    written: dict[int, Any] = {}
    monkeypatch.setattr(job, "SHARD", 3)
    monkeypatch.setattr(Attempt, "write_shard", lambda attempt, index, records: written.update({index: records}))
    try:
        return written, list(run_shards(made.job, range(len(made.job.shards()))[::-1], "cpu", **how))
    finally:
        forget()


def test_its_shards_are_those_that_are_made_image_by_image(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    inline, reported = shards_of(made, monkeypatch)
    found, taken = shards_of(made, monkeypatch, cpus=2)
    assert [count for count, _ in taken] == [count for count, _ in reported] and all(spent.cpu > 0 for _, spent in taken)
    assert list(found) == list(inline) and len(inline) > 1
    for index, records in inline.items():
        assert list(found[index]) == list(records) and all(same(found[index][name], records[name]) for name in records)
    assert set(threading.enumerate()) <= before and not multiprocessing.active_children()


def test_a_stage_that_is_stopped_leaves_no_thread(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    before, asked = set(threading.enumerate()), iter([None, None, Stopped("stopped")])

    def ask() -> None:
        if error := next(asked):
            raise error

    with pytest.raises(Stopped):
        shards_of(made, monkeypatch, ask=ask, cpus=2)
    assert set(threading.enumerate()) <= before and not multiprocessing.active_children()


def test_a_recipe_says_whether_a_stage_takes_many_cores(made: Made) -> None:
    assert made.job.takes_cores() == made.one().processes
    assert not replace(made.job, settings={**made.job.settings, **made.job.recipe.cores_unless}).takes_cores()
