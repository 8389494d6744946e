"""The pipeline makes what one image after the other gives; whatever ends it leaves no thread and no process behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from imagesets.item import Item
from imagesets.views import Loaded, images, load
from orchestrator.engine.pipeline import Pipeline
from training.loop import Stopped
from training.stage import PerImage, Record

SIZES = ((4, 6), (5, 3), (4, 6), (7, 7))
CPU = torch.device("cpu")


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Twelve images of three sizes; the colours of image n are n."""
    for number in range(12):
        Image.new("RGB", SIZES[number % 4], (number,) * 3).save(tmp_path / f"{number}.png")
    return [Item(str(number), tmp_path / f"{number}.png", ()) for number in range(12)]


@dataclass(frozen=True)
class Named:
    """Makes a record that tells the image, its mean as it was computed, and the process that finished it."""

    failing: str = ""

    def __call__(self, item: Item, rgb: np.ndarray, arrays: Sequence[np.ndarray]) -> Record:
        if item.id == self.failing:
            raise ValueError("it cannot be finished")
        return {"id": np.array(item.id), "mean": arrays[0], "size": np.array(rgb.shape[:2]), "process": np.array(os.getpid())}


def means(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
    (scaled,) = images(batch, CPU)
    return [[mean] for mean in scaled.mean(dim=(1, 2, 3))]


STEPS = PerImage(lambda item: load(item, [1.0], CPU), means, Named())


@pytest.fixture
def run(items: list[Item]) -> Iterator[Callable[..., list[list[Record]]]]:
    """Runs steps on all images in three shards, and then sees to it that nothing is left."""
    threads, made = set(threading.enumerate()), list[Pipeline]()

    def run(steps: PerImage = STEPS, batch: int = 3, ask: Callable[[], None] = lambda: None) -> list[list[Record]]:
        made.append(Pipeline("toy-maps", steps, cpus=3, batch=batch))
        return list(made[-1].records((items[start : start + 5] for start in (0, 5, 10)), ask))

    yield run
    for pipeline in made:
        pipeline.close()
    assert set(threading.enumerate()) <= threads and not multiprocessing.active_children()


def ids(shards: list[list[Record]]) -> list[list[str]]:
    return [[str(record["id"]) for record in shard] for shard in shards]


@pytest.mark.parametrize("batch", [1, 3, 99])
def test_records_are_those_of_one_image_after_the_other_and_in_order(run, items, batch) -> None:
    made = run(batch=batch)
    assert ids(made) == [list(map(str, numbers)) for numbers in (range(5), range(5, 10), range(10, 12))]
    for record, item in zip(chain(*made), items, strict=True):
        alone = STEPS(item)
        assert record["mean"] == alone["mean"] and np.array_equal(record["size"], alone["size"])


def test_a_batch_holds_images_of_one_size_and_of_one_shard(run) -> None:
    seen = []
    run(replace(STEPS, compute=lambda batch: seen.append([one.item.id for one in batch]) or means(batch)), batch=2)
    assert seen == [["0", "2"], ["1"], ["3"], ["4"], ["6", "8"], ["5", "9"], ["7"], ["10"], ["11"]]


def test_images_are_loaded_ahead_but_not_all_of_them(run) -> None:
    loading, ahead = [], []

    def noted(item: Item) -> Loaded:
        loading.append(item.id)
        return STEPS.load(item)

    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        ahead.append(len(loading) - sum(len(shard) for shard in done))
        done.append(batch)
        time.sleep(0.02)
        return means(batch)

    done: list[Sequence[Loaded]] = []
    run(replace(STEPS, load=noted, compute=compute), batch=1)
    assert 2 <= max(ahead) <= 6


def failing_at(step: str, id: str) -> PerImage:
    def fails(found: Item | Sequence[Loaded]) -> None:
        if id in ([found.id] if isinstance(found, Item) else [one.item.id for one in found]):
            raise ValueError(f"it cannot be {step}ed")

    if step == "load":
        return replace(STEPS, load=lambda item: fails(item) or STEPS.load(item))
    if step == "compute":
        return replace(STEPS, compute=lambda batch: fails(batch) or means(batch))
    return replace(STEPS, finish=Named(id), processes=step == "process")


@pytest.mark.parametrize("step", ["load", "compute", "finish", pytest.param("process", marks=pytest.mark.slow)])
def test_a_failure_names_the_stage_and_the_image(run, step: str) -> None:
    with pytest.raises(ValueError, match="it cannot be") as failure:
        run(failing_at(step, "7"), batch=1)
    assert failure.value.__notes__ == ["toy-maps failed on 7"]


def test_it_is_asked_before_every_image_and_ends_when_the_answer_is_stop(run) -> None:
    asked, computed = [], []

    def ask() -> None:
        asked.append(len(computed))
        if len(asked) == 8:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        run(replace(STEPS, compute=lambda batch: computed.extend(batch) or means(batch)), batch=1, ask=ask)
    assert asked == list(range(8))


def test_it_is_asked_while_records_are_waited_for(run, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.engine.pipeline.POLL", 0.01)
    asked = []

    def slowly(*given: object) -> Record:
        while len(asked) < 20:
            time.sleep(0.01)
        return Named()(*given)

    assert ids(run(replace(STEPS, finish=slowly), ask=lambda: asked.append(1)))


@pytest.mark.slow
def test_processes_finish_what_holds_the_lock_and_their_time_counts(items) -> None:
    pipeline = Pipeline("toy-maps", replace(STEPS, processes=True), cpus=3, batch=2)
    made = [record for shard in pipeline.records([items[:6], items[6:]]) for record in shard]
    assert [str(record["id"]) for record in made] == [item.id for item in items]
    own = {int(record["process"]) for record in made}
    assert os.getpid() not in own and pipeline.cpu() > 0 and pipeline.cpu() == 0
    pipeline.close()
    assert not any(psutil.pid_exists(process) for process in own)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests import test_pipeline as tests
if __name__ == "__main__":
    items = [tests.Item(str(place), Path(path), ()) for place, path in enumerate(sys.argv[1:])]
    pipeline = tests.Pipeline("toy-maps", tests.replace(tests.STEPS, processes=True), cpus=2, batch=1)
    (made,) = next(pipeline.records([items[:1], items[:1]]))
    print(made["process"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_processes_end_with_a_parent_that_is_killed(items, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, script, items[0].image], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    process = int(done.stdout)
    psutil.wait_procs([psutil.Process(process)] if psutil.pid_exists(process) else [], timeout=10)
    assert not psutil.pid_exists(process)
