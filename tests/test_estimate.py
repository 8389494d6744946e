"""What a plan expects of a missing stage is what an earlier result took, in proportion to its images or training steps."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.planning.estimate import estimate
from orchestrator.planning.prepared import Prepared
from orchestrator.reading.tables import duration, print_plan, terminal
from orchestrator.storage.store import read_manifest, write_json
from tests.finished_run import finished_run
from tests.planned_run import PLAIN, planned


def made(
    items: int, cpu: float, finished: float = 0.0, images: str = "x", device: str = "cpu", **settings: Any
) -> dict[str, Any]:
    identity = {"settings": settings, "images": images}
    return {"identity": identity, "items": items, "cpu": cpu, "wall": cpu / 2, "finished": finished, "device": device}


def wanted(images: str = "x", **settings: Any) -> dict[str, Any]:
    return {"settings": settings, "images": images}


def test_a_stage_of_twice_the_images_takes_twice_the_seconds_of_an_earlier_result() -> None:
    found = estimate("map", wanted("other", scales=[1]), 200, 200, [made(100, 50, scales=[1])])
    assert found is not None
    assert (found.cpu, found.wall, found.source) == (100, 50, "100 images, other images")


def test_only_the_images_that_are_left_count() -> None:
    found = estimate("map", wanted(), 200, 50, [made(100, 50)])
    assert found is not None and found.cpu == 25


@pytest.mark.parametrize(
    ("settings", "images", "factor"),
    [
        ({"epochs": 4, "batch": 10}, 109, 4 / 2),  # an incomplete last batch is dropped
        ({"epochs": 2, "batch": 25}, 100, 1),
        ({"epochs": 2, "batch": 60}, 100, 60 / 100),
    ],
)
def test_a_training_counts_the_images_of_all_its_steps(settings: dict[str, int], images: int, factor: float) -> None:
    found = estimate("train", wanted(**settings), images, images, [made(100, 50, epochs=2, batch=10)])
    assert found is not None and found.cpu == pytest.approx(50 * factor)


def test_iterations_count_whatever_the_list() -> None:
    found = estimate("train", wanted(iterations=300, batch=10), 7, 7, [made(1000, 50, iterations=100, batch=5)])
    assert found is not None and found.cpu == pytest.approx(300)
    assert found.source == "500 images in all steps"


def test_a_training_whose_settings_do_not_tell_its_steps_is_unknown() -> None:
    assert estimate("train", wanted(lr=1), 100, 100, [made(100, 50, lr=1)]) is None


def test_the_result_with_the_fewest_other_settings_tells_then_the_newest() -> None:
    near, far = made(100, 10, 1, scales=[1], crop=64), made(100, 99, 9, scales=[1, 2], crop=64)
    found = estimate("map", wanted(scales=[1], crop=32, name="a"), 100, 100, [near, far, made(100, 20, 2, scales=[1], crop=16)])
    assert found is not None and (found.cpu, found.source) == (20, "100 images, other crop, name")


def test_the_seconds_of_a_part_of_a_result_tell_nothing() -> None:
    assert estimate("map", wanted(), 100, 100, [made(100, 50) | {"partial": True}]) is None


def test_a_result_of_a_gpu_is_called_so() -> None:
    found = estimate("map", wanted(), 100, 100, [made(100, 50, device="NVIDIA H100")])
    assert found is not None and found.source == "100 images on NVIDIA H100"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (119.4, "119 s"), (120, "2.0 min"), (3000, "50 min"), (7200, "2.0 h"), (200000, "56 h")],
)
def test_durations_are_told_in_a_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def shown(prepared: Prepared) -> str:
    stream = io.StringIO()
    console = terminal()
    console.file = stream
    print_plan(console, prepared, prepared.steps)
    return stream.getvalue()


def test_without_any_result_a_plan_invents_nothing(image_set: Path) -> None:
    text = shown(planned(image_set))
    assert "about" not in text
    assert "0 of 10 stages cached; the rest: 10 stages of unknown time" in text


def test_a_longer_training_is_estimated_from_the_shorter_one(image_set: Path) -> None:
    run, _, _ = finished_run(image_set.parent / "store", image_set, "cam+irn", assignments=(*PLAIN, "cam.epochs=5"), room=2)
    manifest = _manifest(run.steps[0].folder) | {"cpu": 1000.0, "wall": 600.0}
    write_json(run.steps[0].folder / "manifest.json", manifest)
    longer = planned(image_set, "cam.epochs=10")
    network = longer.steps[0]
    assert network.stage.name == "cam-network" and network.estimate is not None
    assert (network.estimate.cpu, network.estimate.wall) == (pytest.approx(2000), pytest.approx(1200))
    text = shown(longer)
    estimates = [step.estimate for step in longer.steps if step.estimate and not step.cached]
    assert f"the rest: about {duration(sum(each.cpu for each in estimates))} of CPU; " in text
    next(step for step in longer.steps if step.stage.name == "irn-masks").estimate = None
    assert " of CPU without irn-masks, whose time is unknown; " in shown(longer)
    assert "unknown time" not in text


def test_a_result_that_an_earlier_attempt_began_says_that_its_seconds_are_of_a_part(image_set: Path) -> None:
    run, _, _ = finished_run(image_set.parent / "store", image_set, "cam+irn")
    folders = {step.stage.name: step.folder for step in run.steps}
    assert not any(_manifest(folder)["partial"] for folder in folders.values())
    for name in ("cam-network", "cam-maps"):
        (folders[name] / "manifest.json").unlink()
    torch.save({}, folders["cam-network"] / "checkpoint.pt")
    finished_run(image_set.parent / "store", image_set, "cam+irn")
    assert {name for name, folder in folders.items() if _manifest(folder)["partial"]} == {"cam-network", "cam-maps"}


def _manifest(folder: Path) -> dict[str, Any]:
    found = read_manifest(folder)
    assert found is not None
    return found
