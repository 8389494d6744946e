"""The number of workers follows the machine unless it is set, and a result made with another number is offered."""

from pathlib import Path

import pytest

from orchestrator.planning import workers
from orchestrator.planning.refusals import made_otherwise, unread
from orchestrator.planning.workers import dividing, gpus
from tests.conftest import Command
from tests.finished_run import finished_run
from tests.planned_run import PLAIN, planned


@pytest.mark.parametrize(("room", "batch", "expected"), [(1, 10, 1), (2, 10, 2), (4, 10, 2), (16, 8, 4), (3, 12, 2), (8, 7, 1)])
def test_workers_follow_the_machine_and_divide_every_batch(image_set: Path, room: int, batch: int, expected: int) -> None:
    prepared = planned(image_set, f"deeplabv2.batch={batch}", room=room)
    assert prepared.settings["training.workers"] == expected
    keyed = [step.identity["settings"].get("training.workers") for step in prepared.steps]
    assert {count for count in keyed if count is not None} == {expected}


def test_parts_of_a_share_count_as_workers_do(image_set: Path) -> None:
    stages = planned(image_set).experiment.stages
    training = next(stage for stage in stages if stage.recipe.kind == "train")
    training.settings["accumulate"] = 2  # type: ignore[index]  # as a segmenter's recipe has it
    assert dividing([training], 4) == 2


def test_a_number_of_workers_that_is_set_is_kept(image_set: Path) -> None:
    assert planned(image_set, "training.workers=1", room=4).settings["training.workers"] == 1
    assert planned(image_set, "training.workers=null", room=4).settings["training.workers"] == 4


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, 4), ("0,1", 2), ("", 0), ("-1", 0), ("0,-1,2", 1), ("MIG-a,MIG-b", 2), ("0,1,2,3,4,5", 4)]
)
def test_the_gpus_are_those_that_torch_would_find(visible: str | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_counted_by_driver", lambda: 4)
    monkeypatch.setattr(workers.metadata, "version", lambda name: "2.15.0")
    assert gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected
    monkeypatch.setattr(workers.metadata, "version", lambda name: "2.15.0+cpu")
    assert gpus({}) == 0


def test_a_machine_without_the_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(workers.ctypes, "CDLL", absent)
    monkeypatch.setattr(workers.metadata, "version", lambda name: "2.15.0")
    assert gpus({}) == 0 and workers.room() >= 1


def test_a_result_made_with_another_number_of_workers_is_offered(image_set: Path, command: Command) -> None:
    made = finished_run(image_set.parent / "store", image_set, "cam+none", assignments=(*PLAIN, "training.workers=4"))[0]
    now = planned(image_set, method="cam+none")
    told = made_otherwise(now)
    assert told[0] == (
        "cam-network exists, made with training.workers=4: --set training.workers=4 uses it; otherwise it is made again with 2"
    )
    used = planned(image_set, "training.workers=4", method="cam+none")
    assert all(step.cached for step in used.steps) and used.run == made.run and made_otherwise(used) == []
    assert made_otherwise(planned(image_set, "training.workers=1", method="cam+none")) == []  # asked for
    assert made_otherwise(planned(image_set, "cam.epochs=2", method="cam+none")) == []  # another training


def test_the_number_of_loaders_is_in_no_key_and_no_name(image_set: Path) -> None:
    default, given = planned(image_set), planned(image_set, "training.loaders=3")
    assert default.settings["training.loaders"] is None and given.settings["training.loaders"] == 3
    assert [step.key for step in default.steps] == [step.key for step in given.steps] and default.run == given.run
    training = next(step for step in given.steps if step.stage.recipe.kind == "train")
    assert training.stage.settings["training.loaders"] == 3 and "training.loaders" not in given.experiment.used
    assert list(unread(given.experiment)) == []
