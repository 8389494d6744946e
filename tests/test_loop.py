"""The training loop: resuming changes nothing, and what cannot go on says so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from imagesets.errors import WrongInput
from imagesets.item import Item
from training import loop
from training.stage import Settings, Task

ITEMS = [Item(f"i{number}", Path("none.png"), (0,)) for number in range(11)]
SETTINGS = Settings({"workers": 1, "threads": 1, "precision": "float32", "loaders": 0})


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))

    def forward(self, batch: dict[str, torch.Tensor], progress: float) -> dict[str, torch.Tensor]:
        output = self.network(batch["x"])
        return {"fit": (output - batch["y"]).square().mean(), "size": 1e-3 * output.square().mean()}


def sample(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    x = torch.from_numpy(rng.standard_normal(3).astype(np.float32))
    return {"x": x, "y": x.sum(0, keepdim=True)}


def task(lr: float = 0.05) -> Task:
    torch.manual_seed(0)
    step = Step()
    optimiser = torch.optim.SGD([{"params": step.parameters(), "lr": lr}], momentum=0.9)
    return Task(step.network, step, sample, optimiser, lambda progress: 1 - progress, batch=4, steps=8)


def run(folder: Path, **options: object) -> loop.Run:
    folder.mkdir(exist_ok=True)
    return loop.Run(("test", 0), folder, SETTINGS, torch.device("cpu"), **options)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 7])
def test_a_stopped_and_resumed_training_is_bit_equal_to_an_undisturbed_one(tmp_path: Path, stop_at: int) -> None:
    whole = task()
    history = loop.train(whole, ITEMS, run(tmp_path / "whole"))
    seen: list[int] = []
    halted = run(tmp_path / "halted", report=lambda step, *_: seen.append(step), asked_to_stop=lambda: len(seen) == stop_at)
    with pytest.raises(loop.Stopped):
        loop.train(task(), ITEMS, halted)
    resumed = task()
    torch.manual_seed(99)  # whatever else the new process did
    assert loop.train(resumed, ITEMS, run(tmp_path / "halted")) == history
    assert same(whole.network, resumed.network)


def test_every_epoch_sees_each_image_at_most_once_and_in_another_order(tmp_path: Path) -> None:
    drawn: list[str] = []

    def noting(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        drawn.append(item.id)
        return sample(item, rng)

    noted = task()
    noted.sample = noting
    loop.train(noted, ITEMS, run(tmp_path))
    epochs = [drawn[start : start + 8] for start in range(0, len(drawn), 8)]
    assert len(epochs) == 4 and all(len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_history_holds_the_mean_of_every_named_loss(tmp_path: Path) -> None:
    steps: list[dict[str, float]] = []
    history = loop.train(task(), ITEMS, run(tmp_path, report=lambda step, losses, history: steps.append(losses)))
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[0]["fit"] == pytest.approx((steps[0]["fit"] + steps[1]["fit"]) / 2)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="not finite"):
        loop.train(task(lr=1e30), ITEMS, run(tmp_path))


def test_a_batch_that_workers_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="does not divide"):
        loop.train(task(), ITEMS, run(tmp_path, world=3))


def test_a_fenced_attempt_leaves_no_checkpoint(tmp_path: Path) -> None:
    def fence() -> None:
        raise RuntimeError("another attempt")

    with pytest.raises(RuntimeError, match="another attempt"):
        loop.train(task(), ITEMS, run(tmp_path, fence=fence))
    assert not (tmp_path / loop.CHECKPOINT).exists()
