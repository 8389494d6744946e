"""Initial weights are drawn from the job's own random numbers and from nothing else."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from imagesets.errors import WrongInput
from orchestrator.engine import capacity, training_work
from orchestrator.engine.context import context
from orchestrator.engine.job import WorkerLost
from orchestrator.engine.training_work import prepared
from orchestrator.storage.place import NETWORK
from orchestrator.storage.result import Attempt
from orchestrator.storage.trouble import MARKER
from tests.two_colours import CLASSES, SHARED, TRAINING, write_items
from training import loop
from training.loading import LoaderLost
from training.randomness import generator
from training.run import Run
from training.stage import Training


def job(folder: Path, random_seed: int = 0, purpose: str = "cam-network") -> SimpleNamespace:
    settings = SHARED | TRAINING | {"epochs": 1, "loss": "bce", "lr": 0.1, "head_lr": 0.1}
    recipe = SimpleNamespace(call="methods.cam:training", per_image=False)
    items = write_items(folder, [(0,)] * 8)
    return SimpleNamespace(
        attempt=Attempt(folder),
        recipe=recipe,
        settings=settings,
        classes=CLASSES,
        items=items,
        inputs={},
        random_seed=random_seed,
        purpose=purpose,
        add_ons=(),
    )


def drawn(job: SimpleNamespace, before: int = 0) -> torch.Tensor:
    torch.manual_seed(before)  # whatever the process did before
    weights = prepared(job, "cpu").network.state_dict().values()
    return nn.utils.parameters_to_vector(list(weights))


def test_initial_weights_depend_on_the_random_seed_and_the_stage_alone(tmp_path: Path) -> None:
    first = drawn(job(tmp_path))
    assert torch.equal(first, drawn(job(tmp_path), before=1))
    assert not torch.equal(first, drawn(job(tmp_path, random_seed=1)))


def test_two_stages_that_call_one_function_draw_weights_of_their_own(tmp_path: Path) -> None:
    assert not torch.equal(drawn(job(tmp_path)), drawn(job(tmp_path, purpose="cam-second")))


def test_a_context_s_random_numbers_are_those_of_its_stage_and_their_use(tmp_path: Path) -> None:
    where = context(job(tmp_path, 3), "cpu")
    assert where.generator("a", 1).random() == generator(3, "cam-network", "a", 1).random()


def test_after_the_loss_of_a_loader_the_training_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LoaderLost("a process that loads images has died")

    monkeypatch.setattr(training_work, "_run_training", fail)
    (tmp_path / MARKER).touch()
    working = SimpleNamespace(root=tmp_path, folder=tmp_path)
    with pytest.raises(WorkerLost, match=r"^a process that loads images has died; .* lower training\.loaders$"):
        training_work.run_training(working, 0, 1, "cpu", cores=1)


def test_a_network_that_the_last_step_spoilt_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(training: Training, *_: object) -> list[object]:
        nn.init.constant_(training.network.classifier.weight, torch.inf)
        return []

    monkeypatch.setattr(loop, "train", spoil)
    (tmp_path / MARKER).touch()
    working = job(tmp_path)
    working.root = working.folder = tmp_path
    with pytest.raises(WrongInput, match=r"^the weights classifier\.weight are not finite after step 1 of 1; a lower"):
        training_work.run_training(working, 0, 1, "cpu", cores=1)
    assert not (tmp_path / NETWORK).exists()


@pytest.mark.parametrize(
    ("given", "device", "expected"), [(None, "cpu", 0), (None, "cuda:0", 3), (2, "cuda:0", 2), (2, "cpu", 2)]
)
def test_the_number_of_loaders_follows_the_machine_unless_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int | None, device: str, expected: int
) -> None:
    runs: list[Run] = []

    def stop(training: object, items: object, run: Run) -> None:
        runs.append(run)
        raise loop.Stopped

    monkeypatch.setattr(training_work.loop, "train", stop)
    monkeypatch.setattr(training_work, "Meter", lambda device: None)
    monkeypatch.setattr(training_work, "prepared", lambda job, device: SimpleNamespace(steps=1))
    monkeypatch.setattr(capacity.shutil, "disk_usage", lambda path: SimpleNamespace(free=16 << 30))
    (tmp_path / MARKER).touch()
    working = job(tmp_path)
    working.root = working.folder = tmp_path
    working.settings = {**working.settings, "training.loaders": given}
    training_work.run_training(working, 0, 1, device, cores=4)
    assert [run.settings.loaders for run in runs] == [expected]
