"""`status` without an address: what runs in a store, how far it is, and what was stopped."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.announced import announced
from orchestrator.planning.prepared import Prepared
from orchestrator.reading.running import unfinished
from orchestrator.storage.lease import try_lease
from orchestrator.storage.store import write_json
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run
from tests.planned_run import PLAIN, planned


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    made = planned(write_image_set(tmp_path / "images", train=40), method="cam+none")
    made.planner.store.open()
    return made


@contextmanager
def making(prepared: Prepared, *stages: str) -> Iterator[None]:
    """A launch that makes these stages."""
    with announced([prepared]), ExitStack() as stack:
        for step in prepared.steps:
            if step.stage.name in stages:
                stack.enter_context(try_lease(step.folder))
        yield


def note(prepared: Prepared, stage: str, **content: Any) -> None:
    (step,) = (step for step in prepared.steps if step.stage.name == stage)
    write_json(step.folder / "progress.json", content)


def row(shown: str) -> list[str]:
    """The words of the table's row."""
    lines = shown.splitlines()
    return lines[next(number for number, line in enumerate(lines) if "───" in line) + 1].split()


def test_a_training_tells_its_step_and_the_time_left_at_its_own_speed(prepared: Prepared, command: Command) -> None:
    with making(prepared, "cam-network"):
        now = time.time()
        note(prepared, "cam-network", step=30, steps=90, at=now, since=[now - 1000, 10])
        code, shown, _ = command("status", "--store", prepared.request.store)
    assert code == 0 and row(shown)[:6] == [prepared.run, "cam-network", "30/90", "steps", "50", "min"]
    assert "1 running in" in shown and "0 finished runs" in shown and f"0/{len(prepared.steps)}" in shown


def test_a_training_whose_workers_start_begins_and_other_stages_tell_their_images(prepared: Prepared, command: Command) -> None:
    with making(prepared, "cam-network"):
        assert row(command("status", "--store", prepared.request.store)[1])[1:3] == ["cam-network", "begins"]
    with making(prepared, "cam-maps"):
        (step,) = (step for step in prepared.steps if step.stage.name == "cam-maps")
        (step.folder / "shards").mkdir()
        (step.folder / "shards" / "000000.npz").touch()
        (one,) = unfinished(prepared.request.store)
        assert [(doing.stage, doing.done, doing.total, doing.unit) for doing in one.doing] == [("cam-maps", 32, 40, "images")]
        (step.folder / "shards" / "000001.npz").touch()
        assert next(unfinished(prepared.request.store)).doing[0].done == 40


def test_a_launch_that_ended_without_results_is_stopped_or_failed_and_a_finished_one_is_not_shown(
    prepared: Prepared, command: Command
) -> None:
    store = prepared.request.store
    with making(prepared):
        pass
    code, shown, _ = command("status", "--store", store)
    assert code == 0 and row(shown)[:2] == [prepared.run, "stopped"] and "the command that launched a run continues it" in shown
    write_json(store / "runs" / prepared.run / "failed.json", {"error": "no room (in stage cam-maps)"})
    shown = command("status", "--store", store)[1]
    assert row(shown)[1] == "failed" and f"{prepared.run} failed: no room (in stage cam-maps)" in shown
    write_json(store / "runs" / prepared.run / "results.json", {})
    assert command("status", "--store", store)[1].strip() == f"0 running in {store}; 1 finished runs"


def test_a_trial_that_its_sweep_has_stopped_early_is_not_waited_for(prepared: Prepared) -> None:
    store = prepared.request.store
    with making(prepared):
        pass
    assert [one.state for one in unfinished(store)] == ["stopped"]
    (store / "sweeps" / "one").mkdir(parents=True)
    write_json(store / "sweeps" / "one" / "sweep.json", {"trials": [{"group": prepared.group, "stopped": "worse"}]})
    assert not list(unfinished(store))
    with making(prepared):
        assert [one.state for one in unfinished(store)] == ["running"]


def test_earlier_results_tell_the_time_of_all_stages(tmp_path: Path) -> None:
    images = write_image_set(tmp_path / "images")
    finished_run(tmp_path / "store", images, "cam+none", assignments=PLAIN, room=2)
    other = planned(images, method="cam+none", random_seed=1, store=tmp_path / "store")
    with making(other, "cam-network"):
        (one,) = unfinished(tmp_path / "store")
    assert one.left == pytest.approx(sum(step.estimate.wall for step in other.steps if step.estimate), rel=0.01)
    assert one.doing[0].left is not None


def test_a_store_that_is_not_there_is_refused(command: Command, tmp_path: Path) -> None:
    code, _, errors = command("status", "--store", tmp_path / "nowhere")
    assert code == 2 and f"there is no store at {tmp_path / 'nowhere'}; --store names another folder" in errors
    for words in (("status",), ("clean",), ("compare", "cam")):
        code, _, errors = command(*words, "--store", write_image_set(tmp_path / words[0]))
        assert code == 2 and "is no store, as it has no folder stages" in errors
    code, _, errors = command("export", "cam", "--store", tmp_path / "nowhere", "--to", "new")
    assert code == 2 and f"there is no store at {tmp_path / 'nowhere'}" in errors
