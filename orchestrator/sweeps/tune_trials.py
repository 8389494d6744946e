"""Trials of a sweep under Ray Tune: Tune says which settings come next, this process runs their stages.

A trainable takes no CPU: it asks at a desk and waits for the scores. So trials share every stage that is in the store or on its
way there, and a sweep that was killed resumes by being started again.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune
from ray.tune.search import BasicVariantGenerator

from orchestrator.sweeps.axes import Axis

HEAD = {"node:__internal_head__": 0.001}  # Tune wants some resource: a sliver of one that no stage needs, not of a CPU
POLL = 0.5  # seconds between two looks at the desk, and so between a signal and its effect

Config = dict[str, Any]


@ray.remote(num_cpus=0)
class _Desk:
    """Where trainables ask and this process answers."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[int, Config]] = asyncio.Queue()
        self.answers: dict[int, asyncio.Future] = {}
        self.numbers = itertools.count()

    async def ask(self, config: Config) -> dict[str, Any]:
        number = next(self.numbers)
        self.answers[number] = asyncio.get_running_loop().create_future()
        await self.asked.put((number, config))
        return await self.answers[number]

    async def next(self) -> tuple[int, Config] | None:
        try:
            return await asyncio.wait_for(self.asked.get(), POLL)
        except TimeoutError:
            return None

    async def answer(self, number: int, found: dict[str, Any]) -> None:
        self.answers.pop(number).set_result(found)


def run_trials(
    axes: Sequence[Axis], trials: int, random_seed: int, at_once: int, folder: Path, run: Callable[[Config], dict[str, Any]]
) -> None:
    """Call `run` on the settings of every trial, up to `at_once` side by side, from threads of this process.

    The grid of all axes with values, for each of `trials` draws of the others. `run` returns scores by name, or {"error": why}.
    What it raises (a wish to stop) ends all.
    """
    desk = _Desk.remote()  # type: ignore[attr-defined]
    with ThreadPoolExecutor(at_once + 1) as pool:
        tuning = pool.submit(_tune, desk, _space(axes), trials, random_seed, at_once, folder)
        running: list[Future] = []
        try:
            while not tuning.done():
                asked = ray.get(desk.next.remote())
                if asked is not None:
                    number, config = asked
                    running.append(pool.submit(_answer, desk, number, config, run))
                for done in [trial for trial in running if trial.done()]:
                    running.remove(done)
                    done.result()
        except BaseException:
            ray.kill(desk)  # every trainable that waits fails now, and Tune ends
            raise
        tuning.result()


def _answer(desk: Any, number: int, config: Config, run: Callable[[Config], dict[str, Any]]) -> None:
    ray.get(desk.answer.remote(number, run(config)))


def _tune(desk: Any, space: Config, trials: int, random_seed: int, at_once: int, folder: Path) -> None:
    trainable = tune.with_resources(tune.with_parameters(_trial, desk=desk), tune.PlacementGroupFactory([HEAD]))
    generator = BasicVariantGenerator(max_concurrent=at_once, random_state=random_seed)
    tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=trials, search_alg=generator),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0),
    ).fit()


def _trial(config: Config, desk: Any) -> None:
    scores = ray.get(desk.ask.remote(config))
    if "error" in scores:
        raise RuntimeError(scores["error"])
    tune.report(scores)


def _space(axes: Sequence[Axis]) -> Config:
    return {
        axis.name: getattr(tune, axis.distribution)(*axis.bounds) if axis.distribution else tune.grid_search(list(axis.values))
        for axis in axes
    }
