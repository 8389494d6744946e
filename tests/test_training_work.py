"""Initial weights are drawn from the job's own random numbers and from nothing else."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from orchestrator.engine.context import context
from orchestrator.engine.training_work import prepared
from orchestrator.storage.result import Attempt
from tests.two_colours import CLASSES, SHARED, TRAINING, write_items
from training.randomness import generator


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
