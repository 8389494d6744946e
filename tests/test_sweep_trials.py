"""A sweep continues where it ended, and stops weak trials without harm to the others."""

import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.engine import execution
from orchestrator.engine.execution import Execution, Where
from orchestrator.engine.job import Job
from orchestrator.engine.spent import Spent
from orchestrator.planning.experiment import Request
from orchestrator.planning.prepared import open_images_of, plan_with, planner
from orchestrator.reading.groups import Runs
from orchestrator.storage.store import read_json, write_json
from orchestrator.sweeps import early, trials
from orchestrator.sweeps.axes import split
from orchestrator.sweeps.search import search_of
from orchestrator.sweeps.sweep import Sweep
from orchestrator.sweeps.sweep_results import findings, read_sweep
from orchestrator.sweeps.sweep_table import sweep_rows
from orchestrator.sweeps.trials import Trials
from orchestrator.tracking.live import Live
from tests.conftest import write_image_set
from tests.finished_run import PretendEngine
from training.checkpoint import CHECKPOINT

BY = "seed.miou/train"
LR = "cam.lr=loguniform(0.0001,0.1)"


class Engine(PretendEngine):
    """An engine that notes its trainings. A training has the loss that `loss` gives; with a bad loss it waits to be stopped."""

    room = 4
    bad = 0.5

    def __init__(self, images: Any, loss: Callable[[Job], float] = lambda job: 0.1):
        super().__init__(images)
        self.loss = loss
        self.trained: list[str] = []

    def train(self, job: Job) -> Spent:
        loss = self.loss(job)
        write_json(job.folder / "progress.json", {"step": 1, "steps": 9, "losses": {}, "history": [{"epoch": 1, "fit": loss}]})
        if loss > self.bad:
            until((job.folder / "stop").exists)
            (job.folder / CHECKPOINT).write_text("half")
            return Spent()
        self.trained.append(job.name)
        spent = super().train(job)
        write_json(job.folder / "history.json", [{"epoch": 1, "fit": loss}, {"epoch": 2, "fit": loss / 2}])
        return spent


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_set(tmp_path_factory.mktemp("images") / "images", train=8)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "LOOK", 0.02)
    monkeypatch.setattr(execution, "_logging_to", lambda path: contextlib.nullcontext())  # pytest has a log of its own


def sweep_of(store: Path, images: Path, *vary: str, method: str = "cam+none", until: str = "cam-maps-score", **how: Any) -> Sweep:
    axes, thresholds = split(vary)
    request = Request(method, f"folder:{images}", "deeplabv2-small", store=store)
    return Sweep(request, axes, thresholds, [0], until=until, **how)


@contextmanager
def executing(sweep: Sweep, engine: Callable[[Any], Engine] = Engine) -> Iterator[Execution]:
    """An execution of a sweep's trials on a pretend engine."""
    wanted = sweep.experiment({axis.name: axis.probes[0] for axis in sweep.axes})
    opened = open_images_of(wanted, make=True)
    assert opened is not None
    shared = planner(wanted, opened)
    shared.store.open()
    made = Execution(Console(file=io.StringIO()), shared, 1, Where("local"), sweep.folder / "log.txt")
    made.engine = engine(opened)
    made.engine.__class__.__enter__ = lambda self: self
    made.engine.__class__.__exit__ = lambda self, *exception: None
    with made:
        yield made


def run(sweep: Sweep, engine: Callable[[Any], Engine] = Engine, at_once: int = 2) -> tuple[dict[str, Any], Engine]:
    """Run a sweep; returns its record and its engine."""
    with executing(sweep, engine) as made:
        Trials(sweep, made, search_of(sweep), at_once, Live(sweep.request.store, None)).run()
    record = read_sweep(sweep.request.store, sweep.name)
    assert record is not None
    return record, made.engine


def test_a_sweep_that_was_killed_goes_on_as_it_would_have(tmp_path: Path, images: Path) -> None:
    how: dict[str, Any] = {"search": "optuna", "trials": 6, "by": BY}
    whole, _ = run(sweep_of(tmp_path / "whole", images, LR, **how), at_once=1)
    killed = sweep_of(tmp_path / "killed", images, LR, **how)

    begun: list[str] = []

    class Killed(Engine):
        def train(self, job: Job) -> Spent:
            if len(begun) == 3:
                raise KeyboardInterrupt
            begun.append(job.name)
            return super().train(job)

    with pytest.raises(KeyboardInterrupt):
        run(killed, Killed, at_once=1)
    left = read_sweep(killed.request.store, killed.name)
    assert left is not None and len(left["trials"]) < 6
    record, engine = run(killed, at_once=1)
    assert record == whole and len(record["trials"]) == 6
    assert len(engine.trained) == 3


def test_which_trials_are_faster_changes_nothing(tmp_path: Path, images: Path) -> None:
    class Uneven(Engine):
        """An engine on which the first training ends after another one."""

        def train(self, job: Job) -> Spent:
            if first.acquire(blocking=False):
                until(lambda: len(self.trained) > 0)
            return super().train(job)

    first = threading.Semaphore(1)
    how: dict[str, Any] = {"search": "optuna", "trials": 5, "by": BY}
    even, _ = run(sweep_of(tmp_path / "even", images, LR, **how))
    uneven, _ = run(sweep_of(tmp_path / "uneven", images, LR, **how), Uneven)
    assert uneven == even


def test_the_same_command_again_makes_nothing_and_a_larger_budget_goes_on(tmp_path: Path, images: Path) -> None:
    how: dict[str, Any] = {"search": "optuna", "by": BY}
    first, _ = run(sweep_of(tmp_path, images, LR, trials=3, **how))
    again, engine = run(sweep_of(tmp_path, images, LR, trials=3, **how))
    assert again == first and engine.trained == []
    larger, engine = run(sweep_of(tmp_path, images, LR, trials=5, **how))
    assert larger["trials"][:3] == first["trials"] and len(larger["trials"]) == 5 and len(engine.trained) == 2


def test_a_score_that_no_trial_has_is_told(tmp_path: Path, images: Path) -> None:
    sweep = sweep_of(tmp_path, images, LR, search="optuna", trials=2, by="seed.miuo/train")
    with pytest.raises(WrongInput, match=r"did you mean .seed\.miou/train."):
        run(sweep)


def bad_above(limit: float) -> Callable[[Any], Engine]:
    """An engine on which ReCAM's trainings have a bad loss if their weight is above `limit`."""
    return lambda images: Engine(
        images, lambda job: 0.9 if job.name == "recam-network" and job.settings["lambda"] > limit else 0.1
    )


def test_a_trial_of_bad_losses_is_stopped_and_what_it_shares_is_kept(tmp_path: Path, images: Path) -> None:
    vary = "recam.lambda=0.1,0.2,5"
    sweep = sweep_of(tmp_path, images, vary, method="recam+none", until="recam-maps-score", stop_early="loss")
    record, engine = run(sweep, bad_above(1), at_once=1)
    assert [bool(trial["stopped"]) for trial in record["trials"]] == [False, False, True]
    assert record["trials"][2]["stopped"] == "loss of recam-network 0.9 at epoch 1 is not among the best third"
    assert sorted(engine.trained) == ["cam-network", "recam-network", "recam-network"]
    (half,) = [path.parent for path in (tmp_path / "stages").glob(f"recam-network-*/{CHECKPOINT}")]
    assert not (half / "manifest.json").exists()
    found = findings(Runs(tmp_path), record)
    assert found.failed == [] and len(found.trials) == 2
    assert sweep_rows(found)[2][:2] == ["5", "stopped early"]
    again, engine = run(sweep, bad_above(1), at_once=1)
    assert again == record and engine.trained == []


def test_a_trial_is_compared_with_what_was_known_of_trials_of_an_earlier_command(tmp_path: Path, images: Path) -> None:
    how: dict[str, Any] = {"search": "random", "stop_early": "loss"}
    run(sweep_of(tmp_path, images, LR, trials=1, **how))
    record, _ = run(sweep_of(tmp_path, images, LR, trials=2, **how), lambda images: Engine(images, lambda job: 0.9))
    assert [bool(trial["stopped"]) for trial in record["trials"]] == [False, True]


def test_a_trial_of_bad_seeds_is_stopped_before_its_pseudo_masks(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(Engine):
        """An engine that makes no affinity network before the trial is judged."""

        def train(self, job: Job) -> Spent:
            if job.name == "irn-network":
                until(lambda: (job.folder / "stop").exists() or self.trained == ["cam-network"])
                if (job.folder / "stop").exists():
                    return Spent()
            return super().train(job)

    monkeypatch.setattr(early, "results", worse_and_worse(early.results))
    sweep = sweep_of(tmp_path, images, "cam.epochs=2,3", method="cam+irn", until="", stop_early="score")
    record, engine = run(sweep, Waiting, at_once=1)
    assert [bool(trial["stopped"]) for trial in record["trials"]] == [False, True]
    assert record["trials"][1]["stopped"].startswith("mIoU of cam-maps-score")
    assert engine.trained == ["cam-network", "irn-network", "deeplabv2-segmenter", "cam-network"]


def worse_and_worse(results: Callable[..., Iterator[early.Result]]) -> Callable[..., Iterator[early.Result]]:
    """Early results that fall from trial to trial by more than the scores of a pretend engine differ."""
    seen: dict[str, float] = {}

    def lowered(kind: str, steps: Any) -> Iterator[early.Result]:
        drop = seen.setdefault(steps[0].key, 0.2 * len(seen))
        for found in results(kind, steps):
            yield early.Result(found.name, found.epoch, found.value - drop, found.better)

    return lowered


class Held(Engine):
    """Holds the stage of one name until it may go on or is asked to end."""

    name_held = "cam-network"

    def __init__(self, images: Any):
        super().__init__(images)
        self.begun, self.release = threading.Event(), threading.Event()

    def train(self, job: Job) -> Spent:
        if job.name == self.name_held:
            self.begun.set()
            until(lambda: self.release.is_set() or (job.folder / "stop").exists())
            if not self.release.is_set():
                (job.folder / CHECKPOINT).write_text("half")
                return Spent()
        return super().train(job)

    def map(self, job: Job, indices: list[int], ask: Callable[[], None], tell: Callable[[str], None]) -> Iterator[Any]:
        if job.name == self.name_held:
            self.begun.set()

            def asked() -> bool:
                ask()
                return self.release.is_set()

            until(asked)
        return super().map(job, indices, ask, tell)


@pytest.mark.parametrize("held", ["cam-network", "recam-responses"])
def test_a_stage_goes_on_as_long_as_one_trial_waits_and_ends_with_the_last(
    tmp_path: Path, images: Path, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Held, "name_held", held)
    sweep = sweep_of(tmp_path, images, "recam.weights=w,sum", method="recam+none", until="recam-maps")
    with executing(sweep, Held) as made, ThreadPoolExecutor(2) as pool:
        plans = [
            plan_with(made.planner, sweep.experiment({"recam.weights": kind}), "", sweep.until).steps for kind in ("w", "sum")
        ]
        folder = next(step.folder for step in plans[0] if step.stage.name == held)
        given_up = [threading.Event(), threading.Event()]
        first, second = (pool.submit(made.run, [plan], event) for plan, event in zip(plans, given_up, strict=True))
        made.engine.begun.wait(20)
        until(lambda: len(made.waiting) == 2)
        given_up[0].set()
        time.sleep(1.2)  # twice the time that a request to stop takes
        assert not (folder / "stop").exists() and not second.done()
        made.engine.release.set()
        assert second.result() == [None]
        with pytest.raises(trials.Stopped):
            first.result()
        assert made.engine.trained == ["cam-network", "recam-network"]
        assert all(step.cached for step in plans[1])
        assert not (plans[0][-1].folder / "manifest.json").exists()  # which the first alone waited for


def test_a_stage_that_nobody_waits_for_ends_at_a_checkpoint(tmp_path: Path, images: Path) -> None:
    sweep = sweep_of(tmp_path, images, "cam.epochs=1,2")
    with executing(sweep, Held) as made, ThreadPoolExecutor(2) as pool:
        steps = plan_with(made.planner, sweep.experiment({"cam.epochs": 1}), "", sweep.until).steps
        given_up = threading.Event()
        running = pool.submit(made.run, [steps], given_up)
        made.engine.begun.wait(20)
        given_up.set()
        with pytest.raises(trials.Stopped):
            running.result()
        assert (steps[0].folder / CHECKPOINT).exists() and not steps[0].cached
        made.engine.release.set()
        assert made.run([steps]) == [None]  # an old request to stop does not end it again
        assert read_json(steps[0].folder / "manifest.json")


def test_stop_early_needs_something_to_compare_trials_by(tmp_path: Path, images: Path) -> None:
    sweep = sweep_of(tmp_path, images, LR)
    with executing(sweep) as made:
        steps = plan_with(made.planner, sweep.experiment({"cam.lr": 0.1}), "", sweep.until).steps
    with pytest.raises(WrongInput, match="only one score, at its end"):
        early.check("score", steps)
    with pytest.raises(WrongInput, match="no stage of this sweep trains"):
        early.check("loss", [step for step in steps if step.stage.recipe.kind != "train"])
    early.check("loss", steps)
    assert json.dumps([found.name for found in early.results("loss", steps)]) == "[]"
