"""The work of a shard around the stage's function: running sums, and advice if memory runs out."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imagesets.errors import WrongInput
from orchestrator.engine import makers
from orchestrator.engine.failures import out_of_memory
from orchestrator.engine.makers import OneByOne, images_at_once, maker_of
from orchestrator.engine.pipeline import Pipeline
from orchestrator.engine.shard_work import _named, add
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.recipes import load_all
from training.stage import PerImage


def test_records_are_summed_one_by_one_as_numpy_sums_them_all() -> None:
    rng = np.random.default_rng(0)
    records = [
        {"small": rng.integers(0, 255, 9).astype(np.uint8), "truth": rng.random(9) < 0.5, "real": rng.random((2, 3))}
        for _ in range(40)
    ]
    total: dict[str, np.ndarray] = {}
    for record in records:
        add(total, record)
    for name, array in total.items():
        whole = np.sum([record[name] for record in records], axis=0)
        assert array.dtype == whole.dtype and np.array_equal(array, whole)


def test_memory_grows_with_settings_that_the_recipe_has() -> None:
    for recipe in load_all().values():
        assert set(recipe.memory) <= set(recipe.settings), recipe.name


def test_the_advice_names_what_the_stage_of_the_recipe_has() -> None:
    (stage,) = (stage for stage in experiment(Request("advcam")).stages if stage.name == "advcam-maps")
    told = str(out_of_memory("advcam-maps", stage, MemoryError()))
    assert told.startswith("out of memory in advcam-maps: lower advcam.classes_at_once, advcam.scales, how many run at once")


@pytest.mark.parametrize(("gigabytes", "images"), [(2, 1), (8, 2), (24, 6), (80, 8)])
def test_a_gpu_gets_as_many_images_at_once_as_its_memory_holds(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, images: int
) -> None:
    properties = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert images_at_once(torch.device("cuda")) == images and images_at_once(torch.device("cpu")) == 1


def test_the_setting_says_how_many_images_a_pipeline_computes_at_once() -> None:
    steps = PerImage(lambda item: pytest.fail("it is loaded"), lambda batch: [], lambda *given: {})
    for settings, images in (({"extraction.batch": 5}, 5), ({"extraction.batch": None}, 1), ({}, 1)):
        made = maker_of("toy-maps", steps, str, settings, "cpu", cpus=2)
        assert isinstance(made, Pipeline) and made.batch == images
        made.close()
    assert isinstance(maker_of("toy-maps", steps, str, {}, "cpu", cpus=0), OneByOne)
    assert isinstance(maker_of("toy-maps", steps.finish, str, {}, "cpu", cpus=2), OneByOne)


def test_stages_that_alternate_in_a_process_each_compute_with_their_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def job(threads: int) -> Any:
        parts = {"name": "toy-maps", "recipe": SimpleNamespace(call=""), "name_of": str}
        return type("Job", (), {**parts, "settings": {"extraction.threads": threads}})()

    asked: list[int] = []
    monkeypatch.setattr(makers, "set_threads", asked.append)
    monkeypatch.setattr(makers, "resolve", lambda call: lambda given: str)
    monkeypatch.setattr(makers, "context", lambda job, device: None)
    monkeypatch.setattr(makers, "_kept", {})
    one, two = job(1), job(2)
    made = [makers.maker(each, "cpu", 0) for each in (one, two, one)]
    assert asked == [1, 2, 1] and made[0] is made[2]


def test_maps_that_are_not_finite_end_their_stage_with_a_sentence() -> None:
    job: Any = SimpleNamespace(name="toy-maps", recipe=SimpleNamespace(writes="maps", store="each"), name_of=str)
    good = {"keys": np.array([0]), "grid0": np.ones((1, 2, 2), np.float16)}
    bad = {"keys": np.array([0]), "grid0": np.full((1, 2, 2), np.nan, np.float16)}
    assert list(_named(job, ["a", "b"], iter([good, good]), {})) == ["a", "b"]
    with pytest.raises(WrongInput, match="toy-maps makes maps of b that are not finite"):
        _named(job, ["a", "b"], iter([good, bad]), {})
