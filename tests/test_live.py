"""MLflow hears of a run while it runs: losses, learning rates and speeds. `track` completes the same run."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.job import Job
from orchestrator.engine.spent import Spent
from orchestrator.storage.store import write_json
from orchestrator.sweeps import trials
from orchestrator.sweeps.search import search_of
from orchestrator.sweeps.sweep_results import read_sweep
from orchestrator.sweeps.trials import Trials
from orchestrator.tracking import live
from orchestrator.tracking.live import Live
from orchestrator.tracking.points import points
from tests.conftest import write_image_set
from tests.finished_run import PretendEngine, finished_run
from tests.planned_run import planned
from tests.test_sweep_trials import Engine, executing, sweep_of, until

mlflow = pytest.importorskip("mlflow")
from orchestrator.tracking.tracking import (  # noqa: E402 (needs MLflow)
    NotDelivered,
    database,
    deliver,
    deliver_or_say,
    deliver_sweep,
)

LOSS = "training.cam-network/classification"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.05)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_set(tmp_path_factory.mktemp("live") / "images", train=8)


@pytest.fixture
def store(empty_database: Path, images: Path, tmp_path: Path) -> Path:
    """A new store with an MLflow database."""
    root = planned(images, store=tmp_path / "store").planner.store
    root.open()
    shutil.copy(empty_database, database(root.root))
    return root.root


def note(step: int, at: float, **more: Any) -> dict[str, Any]:
    """What a training notes after `step` steps of four images at second `at`."""
    told = {"losses": {"classification": 1 / step}, "rates": [0.1], "history": [], **more}
    return {"step": step, "steps": 90, "images": 4 * step, "at": at, **told}


def client(store: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{database(store)}")


def runs(store: Path) -> dict[str, Any]:
    """All runs in the store's database: those of random seeds by their name in the store, the others by their title."""
    found = [run for one in client(store).search_experiments() for run in client(store).search_runs([one.experiment_id])]
    marks = [[run.data.tags.get(f"wsss.{kind}") for kind in ("run", "launch", "sweep")] for run in found]
    assert all(marks.count(mark) == 1 for mark in marks)  # none is there twice
    return {run.data.tags.get("wsss.run", run.info.run_name): run for run in found}


def curve(store: Path, run: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(store).get_metric_history(run.info.run_id, name)]


def test_a_note_gives_losses_rates_and_the_speed_since_the_one_before() -> None:
    found = {name: (value, moment, step) for name, value, moment, step in points("cam-network", note(10, 5.0), note(5, 1.0))}
    assert found == {
        LOSS: (0.1, 5000, 10),
        "training.cam-network/learning_rate": (0.1, 5000, 10),
        "training.cam-network/images_per_second": (5.0, 5000, 10),
    }
    first = {name for name, *_ in points("cam-network", note(5, 1.0, rates=[0.1, 0.2]), None)}
    assert first == {LOSS, "training.cam-network/learning_rate.1", "training.cam-network/learning_rate.2"}


class Noting(PretendEngine):
    """An engine whose first training notes two steps, each when MLflow has the one before."""

    store: Path
    seen: list[Any]

    def train(self, job: Job) -> Spent:
        if job.name == "cam-network":
            for step in (5, 10):
                write_json(job.folder / "progress.json", note(step, float(step)))
                until(lambda step=step: step in self._steps(), 60)
            self.seen += [run.info.status for run in runs(self.store).values()]
        return super().train(job)

    def _steps(self) -> list[int]:
        found = [run for name, run in runs(self.store).items() if name.endswith("-0")]
        return [step for run in found for step, _ in curve(self.store, run, LOSS)]


@pytest.mark.slow
def test_a_run_is_seen_while_it_runs_and_the_delivery_completes_the_same_run(images: Path, store: Path) -> None:
    Noting.store, Noting.seen = store, []
    prepared = planned(images, method="cam+none", store=store)
    with Live(store, "") as watching:
        watching.follow([prepared])
        _, results, _ = finished_run(store, images, "cam+none", Noting, assignments=_assigned(prepared), room=2)
    assert Noting.seen == ["RUNNING", "RUNNING"]
    before = runs(store)
    assert deliver(store, results["run"])[1]
    after = runs(store)
    assert {name: run.info.run_id for name, run in after.items()} == {name: run.info.run_id for name, run in before.items()}
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    child = after[results["run"]]
    assert curve(store, child, LOSS) == [(5, 0.2), (10, 0.1)]
    assert curve(store, child, "training.cam-network/images_per_second") == [(10, 4.0)]
    assert child.data.metrics["seed.miou/train"] == results["rows"][0]["metrics"]["miou"]


def _assigned(prepared: Any) -> tuple[str, ...]:
    return prepared.request.assignments


@pytest.mark.slow
@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_launch_that_ends_without_results_leaves_no_run_that_seems_to_run(
    images: Path, store: Path, failure: type[BaseException]
) -> None:
    prepared = planned(images, method="cam+none", store=store)
    with pytest.raises(failure), Live(store, "", "a sweep") as watching:
        watching.follow([prepared])
        until(lambda: bool(watching.followed[0].ids), 60)
        raise failure
    assert [run.info.status for run in runs(store).values()] == ["KILLED"] * 3
    with Live(store, "", "a sweep") as watching:
        watching.follow([prepared])
        watching.end([prepared.run], "FAILED")
        until(lambda: bool(watching.followed[0].ids), 60)
    assert {name: run.info.status for name, run in runs(store).items()} == {
        prepared.run: "FAILED",
        "cam+none": "FAILED",
        "sweep of cam+none": "RUNNING",  # which goes on
    }


@pytest.mark.slow
def test_a_run_that_was_delivered_and_runs_again_is_completed_again(images: Path, store: Path) -> None:
    prepared, results, _ = finished_run(store, images, "cam+none")
    deliver(store, results["run"])
    assert not deliver(store, results["run"])[1]
    for step in prepared.steps:
        step.manifest = None
    with Live(store, "") as watching:
        watching.follow([prepared])
        until(lambda: bool(watching.followed[0].ids), 60)
    assert {run.info.status for run in runs(store).values()} == {"RUNNING"}
    assert deliver(store, results["run"])[1]
    assert {run.info.status for run in runs(store).values()} == {"FINISHED"}


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("dead", [True, False])
def test_a_dead_or_silent_server_costs_the_launch_nothing(images: Path, store: Path, dead: bool, silent: str) -> None:
    import orchestrator.tracking.track  # noqa: F401 (loading MLflow takes seconds, and is not what is timed)

    prepared = planned(images, method="cam+none", store=store)
    began = time.monotonic()
    with Live(store, "http://127.0.0.1:1" if dead else silent) as watching:
        watching.follow([prepared])
        time.sleep(0.5)
    assert time.monotonic() - began < 1.5 and not watching.reached


@pytest.mark.slow
def test_nothing_is_copied_without_tracking(images: Path, store: Path) -> None:
    with Live(store, None) as watching:
        watching.follow([planned(images, method="cam+none", store=store)])
        time.sleep(0.2)
    assert not runs(store)


def test_the_environment_does_not_change_while_runs_are_followed(
    images: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainings in the same process read it in native code, and a change at that moment would end the process."""
    changes = list[tuple[object, ...]]()
    monkeypatch.setattr(os, "putenv", lambda *change: changes.append(change))
    monkeypatch.setattr(os, "unsetenv", lambda *change: changes.append(change))
    with Live(store, "") as watching:
        watching.follow([planned(images, method="cam+none", store=store)])
        until(lambda: watching.reached, 60)
    assert not changes


@pytest.mark.slow
def test_trials_of_a_sweep_are_seen_while_it_runs_below_the_run_of_the_sweep(
    images: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "LOOK", 0.02)
    sweep = sweep_of(store, images, "cam.lr=0.1,0.2")
    with executing(sweep, Engine) as made, Live(store, "", sweep.name) as watching:
        Trials(sweep, made, search_of(sweep), 1, watching).run()
        until(lambda: watching.reached and not watching.made, 60)
        during = runs(store)
    assert {f"cam+none lr {value}" for value in (0.1, 0.2)} <= during.keys()
    above = during["sweep of cam+none"]
    assert above.info.status == "RUNNING"
    trial = during["cam+none lr 0.1"]
    assert trial.data.tags["mlflow.parentRunId"] == above.info.run_id and trial.info.status == "FINISHED"


@pytest.mark.slow
def test_a_sweep_is_delivered_once_with_its_trials_also_later(images: Path, store: Path) -> None:
    sweep = sweep_of(store, images, "cam.lr=0.1,0.2")
    with executing(sweep, Engine) as made, Live(store, None) as nothing:
        Trials(sweep, made, search_of(sweep), 1, nothing).run()
    record = read_sweep(store, sweep.name)
    assert record is not None and not runs(store)
    names = [f"{trial['group']}-0" for trial in record["trials"]]
    assert "not delivered" not in deliver_or_say(store, names, "", sweep.name)
    first = runs(store)
    deliver_sweep(store, sweep.name)
    assert runs(store).keys() == first.keys()
    above = first["sweep of cam+none"]
    assert above.info.status == "FINISHED"
    assert [file.path for file in client(store).list_artifacts(above.info.run_id)] == ["sweep.json"]
    for value in (0.1, 0.2):
        assert first[f"cam+none lr {value}"].data.tags["mlflow.parentRunId"] == above.info.run_id
    with pytest.raises(NotDelivered, match="the sweep other was not delivered"):
        deliver_sweep(store, "other")


def test_only_runs_without_results_are_killed_with_a_sweep(images: Path, store: Path) -> None:
    first, second, third = (planned(images, method="cam+none", store=store, random_seed=seed) for seed in range(3))
    watching = Live(store, None)
    with pytest.raises(KeyboardInterrupt), watching:
        watching.follow([first, second, third])
        watching.deliver([first.run])
        watching.end([second.run], "FAILED")
        raise KeyboardInterrupt
    assert watching.ends == {second.run: "FAILED", third.run: "KILLED"}
