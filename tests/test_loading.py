"""Processes that load images: they change no bit of a training, and they end with it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch

from imagesets.errors import WrongInput
from imagesets.item import Item
from tests.test_loop import ITEMS, VARIANTS, run, same, sample, training
from training import loop
from training.loading import LoaderLost
from training.stage import Settings, Training

pytestmark = pytest.mark.slow  # each test starts processes


def with_loaders(folder: Path, loaders: int, **options: object) -> loop.Run:
    plain = run(folder, **options)
    return replace(plain, settings=Settings({**plain.settings.values, "loaders": loaders}))


def processes() -> list[psutil.Process]:
    """The processes that load images for this one; the server that they are forked from stays."""
    return [child for server in psutil.Process().children() for child in server.children()]


@pytest.fixture(autouse=True)
def end_with_the_training() -> Iterator[None]:
    assert processes() == []
    yield
    assert processes() == []


def noting(found: list[int]) -> Training:
    """A training that notes the number of its loaders after each step."""
    return training(after_step=lambda step: found.append(len(processes())))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_with_loaders_ends_bit_equal_also_if_it_was_stopped(tmp_path: Path, variant: str) -> None:
    alone, helped = (replace(training(), **VARIANTS[variant]) for _ in range(2))
    history = loop.train(alone, ITEMS, with_loaders(tmp_path / "alone", 0, ema=0.9))
    seen: list[int] = []
    asked = {"report": lambda step, *_: seen.append(step), "asked_to_stop": lambda: len(seen) == 3}
    with pytest.raises(loop.Stopped):  # in an epoch of this one
        loop.train(replace(training(), **VARIANTS[variant]), ITEMS, with_loaders(tmp_path / "helped", 1, ema=0.9, **asked))
    assert loop.train(helped, ITEMS, with_loaders(tmp_path / "helped", 2, ema=0.9)) == history
    assert same(alone.objective, helped.objective)


def test_the_same_processes_load_for_all_epochs(tmp_path: Path) -> None:
    found: list[int] = []
    loop.train(noting(found), ITEMS, with_loaders(tmp_path, 2))
    assert found == [2] * 8


def test_they_end_with_a_training_that_fails(tmp_path: Path) -> None:
    def fail(step: int) -> None:
        assert len(processes()) == 2
        raise RuntimeError("of the training")

    with pytest.raises(RuntimeError, match="of the training") as kept:  # the traceback holds all that the training had
        loop.train(training(after_step=fail), ITEMS, with_loaders(tmp_path, 2))
    assert processes() == [] and kept.value


def wait(folder: Path) -> None:
    """Train for ever; `test_they_end_with_a_training_that_is_killed` runs this in a process of its own."""
    loop.train(training(after_step=lambda step: time.sleep(600)), ITEMS, with_loaders(folder, 2))


def test_they_end_with_a_training_that_is_killed(tmp_path: Path) -> None:
    command = f"from tests.test_loading import Path, wait; wait(Path({str(tmp_path)!r}))"
    with subprocess.Popen([sys.executable, "-c", command], cwd=Path(__file__).parents[1]) as killed:
        started = patiently(lambda: len(family := psutil.Process(killed.pid).children(recursive=True)) >= 4 and family)
        killed.kill()
    assert psutil.wait_procs(started, timeout=20)[1] == []


def patiently(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_training_tells_that_one_of_them_has_died(tmp_path: Path) -> None:
    def kill(step: int) -> None:
        processes()[0].kill()

    with pytest.raises(LoaderLost, match="a process that loads images has died"):
        loop.train(training(after_step=kill), ITEMS, with_loaders(tmp_path, 2))


def refused(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    raise WrongInput(f"the mask of {item.id} is wrong")


def broken(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    raise RuntimeError("a bug")


def test_what_they_refuse_is_the_sentence_alone(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"^the mask of i\d+ is wrong$"):
        loop.train(replace(training(), sample=refused), ITEMS, with_loaders(tmp_path, 1))


def test_they_end_with_an_error_of_one_of_them(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in DataLoader worker process 0.*in broken.*a bug") as kept:
        loop.train(replace(training(), sample=broken), ITEMS, with_loaders(tmp_path, 2))
    assert processes() == [] and kept.value


def telling(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    held = {signal.SIGINT, signal.SIGTERM} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    told = torch.tensor([torch.get_num_threads(), cv2.getNumThreads(), held])
    return sample(item, rng) | {"told": told}


def test_they_compute_with_one_thread_and_leave_signals_to_the_training(tmp_path: Path) -> None:
    seen = []

    def interrupt(step: int) -> None:
        for process in processes():
            os.kill(process.pid, signal.SIGINT)
            os.kill(process.pid, signal.SIGTERM)

    watched = replace(training(after_step=interrupt), sample=telling)
    watched.objective.register_forward_pre_hook(lambda module, given: seen.append(given[0]["told"]))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    loop.train(watched, ITEMS, with_loaders(tmp_path, 1))
    assert torch.cat(seen).unique(dim=0).tolist() == [[1, 1, 1]] and len(seen) == 8
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
