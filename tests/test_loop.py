"""The training loop: resuming changes nothing, every option has its effect, and errors are named."""

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from backbones.precision import MixedPrecision
from imagesets.errors import WrongInput
from imagesets.item import Item
from orchestrator.engine.spent import Spent
from orchestrator.engine.stage_kinds import Making
from orchestrator.storage.place import NETWORK
from training import checkpoint, loop
from training.stage import Losses, Outputs, Settings, Training

ITEMS = [Item(f"i{number}", Path("none.png"), (number % 3,)) for number in range(11)]
SETTINGS = Settings({"precision": "float32", "loaders": 0, "ema": 0.0, "graphs": True})


class Network(MixedPrecision, nn.Sequential):
    """A network that computes in the precision of the training."""


class Objective(nn.Module):
    """A small regression. The loss `late` begins at step 3 and reaches parameters that no other loss reaches."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.network = Network(nn.Linear(3, 4), nn.Dropout(dropout), nn.Linear(4, 1))
        self.branch = nn.Linear(3, 1)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.noise: list[float] = []  # what dropout would draw at each step

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        self.noise.append(torch.rand(()).item())
        output = self.network(batch["x"])
        losses = {"fit": (output - batch["y"]).square().mean()}
        if step < 6:
            losses["size"] = 1e-3 * output.square().mean()
        if step >= 3:
            losses["late"] = (self.branch(batch["x"]) + batch["y"]).square().mean()
        return losses, {"output": output}


def sample(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    x = torch.from_numpy(rng.standard_normal(3).astype(np.float32))
    return {"x": x, "y": x.sum(0, keepdim=True)}


def training(lr: float = 0.05, dropout: float = 0.5, **options: object) -> Training:
    torch.manual_seed(0)
    objective = Objective(dropout)
    optimiser = torch.optim.SGD([{"params": objective.parameters(), "lr": lr}], momentum=0.9)
    of_loop = {"batch": 4, "steps": 8, "after_step": lambda step: objective.steps.add_(1)} | options
    return Training(objective.network, objective, sample, optimiser, lambda step: 1 - step / 8, **of_loop)


def run(folder: Path, ema: float = 0.0, precision: str = "float32", **options: object) -> loop.Run:
    folder.mkdir(exist_ok=True)
    settings = Settings({**SETTINGS.values, "ema": ema, "precision": precision})
    return loop.Run(("test", 0), folder, settings, torch.device("cpu"), **options)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def noting(drawn: list[str]) -> Training:
    """A training that notes the ids of its examples."""

    def sample_and_note(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        drawn.append(item.id)
        return sample(item, rng)

    return replace(training(), sample=sample_and_note)


@dataclass(frozen=True)
class Pair:
    """Two images that share a class."""

    first: Item
    second: Item


def pairs(items: Sequence[Item], rng: np.random.Generator) -> list[Pair]:
    """Each image with a partner of its class, in random order; every other epoch is shorter by half."""
    partners = [[other for other in items if other.labels == item.labels and other is not item] for item in items]
    drawn = [Pair(item, own[rng.integers(len(own))]) for item, own in zip(items, partners, strict=True)]
    return [drawn[place] for place in rng.permutation(len(drawn))[: len(drawn) if rng.random() < 0.5 else len(drawn) // 2]]


def sample_pair(pair: Pair, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    assert pair.first.labels == pair.second.labels
    return sample(pair.first, rng)


VARIANTS = {
    "plain": {},
    "accumulating": {"accumulate": 2},
    "pairs": {"examples": pairs, "sample": sample_pair},
}


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_stopped_and_resumed_training_is_bit_equal_to_an_undisturbed_one(
    tmp_path: Path, stop_at: int, variant: str, ema: float
) -> None:
    whole = replace(training(), **VARIANTS[variant])
    history = loop.train(whole, ITEMS, run(tmp_path / "whole", ema))
    seen: list[int] = []
    asked = {"report": lambda step, *_: seen.append(step), "asked_to_stop": lambda: len(seen) == stop_at}
    with pytest.raises(loop.Stopped):
        loop.train(replace(training(), **VARIANTS[variant]), ITEMS, run(tmp_path / "halted", ema, **asked))
    resumed = replace(training(), **VARIANTS[variant])
    torch.manual_seed(99)  # whatever else the new process did
    assert loop.train(resumed, ITEMS, run(tmp_path / "halted", ema)) == history
    assert same(whole.objective, resumed.objective)
    assert resumed.objective.steps == 8  # what `after_step` did before the stop counts


def test_every_epoch_sees_each_image_at_most_once_and_in_another_order(tmp_path: Path) -> None:
    drawn: list[str] = []
    loop.train(noting(drawn), ITEMS, run(tmp_path))
    epochs = [drawn[start : start + 8] for start in range(0, len(drawn), 8)]
    assert len(epochs) == 4 and all(len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_training_draws_its_own_examples_in_its_own_order(tmp_path: Path) -> None:
    drawn: list[str] = []
    windows = replace(noting(drawn), examples=lambda items, rng: [item for item in items[:3] for _ in range(3)], steps=4)
    history = loop.train(windows, ITEMS, run(tmp_path))
    assert drawn == ["i0", "i0", "i0", "i1", "i1", "i1", "i2", "i2"] * 2  # the incomplete last batch is dropped
    assert [row["epoch"] for row in history] == [1, 2]


def test_examples_of_one_image_have_random_numbers_of_their_own(tmp_path: Path) -> None:
    drawn: list[float] = []

    def sample_and_note(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        drawn.append(np.random.default_rng(rng.integers(2**60)).random())
        return sample(item, rng)

    windows = replace(training(), sample=sample_and_note, examples=lambda items, rng: [items[0]] * 4, steps=2)
    loop.train(windows, ITEMS, run(tmp_path))
    assert len(set(drawn)) == 8


def test_dropout_draws_anew_in_each_step(tmp_path: Path) -> None:
    one, other = training(), training()
    loop.train(one, ITEMS, run(tmp_path / "one"))
    loop.train(other, ITEMS, replace(run(tmp_path / "other"), purpose=("test", 1)))
    assert len(set(one.objective.noise)) == 8
    assert not set(one.objective.noise) & set(other.objective.noise)


def test_the_history_holds_the_mean_of_every_loss_over_the_steps_that_had_it(tmp_path: Path) -> None:
    steps: list[dict[str, float]] = []
    epochs: list[int] = []

    def report(step: int, losses: dict[str, float], history: list[dict[str, float]]) -> None:
        steps.append(losses)
        epochs.append(len(history))

    history = loop.train(training(), ITEMS, run(tmp_path, report=report))
    assert epochs == [0, 0, 1, 1, 2, 2, 3, 3]  # that had ended before each step
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [sorted(row) for row in history] == [
        ["epoch", "fit", "size"],
        ["epoch", "fit", "late", "size"],
        ["epoch", "fit", "late", "size"],
        ["epoch", "fit", "late"],
    ]
    assert history[0]["fit"] == pytest.approx(fmean([steps[0]["fit"], steps[1]["fit"]]))
    assert history[1]["late"] == steps[3]["late"]


def test_parameters_that_no_loss_reaches_yet_do_not_move(tmp_path: Path) -> None:
    few = training(steps=3)
    before = few.objective.branch.weight.clone()
    loop.train(few, ITEMS, run(tmp_path))
    assert torch.equal(few.objective.branch.weight, before) and few.objective.branch.weight.grad is None


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_make_the_update_of_the_whole_batch(tmp_path: Path, parts: int) -> None:
    whole, split = training(dropout=0.0), training(dropout=0.0, accumulate=parts)
    histories = [loop.train(one, ITEMS, run(tmp_path / name)) for name, one in (("whole", whole), ("split", split))]
    for name, values in whole.objective.state_dict().items():
        torch.testing.assert_close(split.objective.state_dict()[name], values, msg=name)
    for found, expected in zip(*histories, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_what_is_delivered_is_the_average_of_the_weights(tmp_path: Path) -> None:
    averaged, seen = training(), []
    initial = averaged.network[0].weight.clone()
    averaged.after_step = lambda step: seen.append(averaged.network[0].weight.detach().clone())
    loop.train(averaged, ITEMS, run(tmp_path, ema=0.75))
    for weights in seen:
        initial = 0.75 * initial + 0.25 * weights
    torch.testing.assert_close(averaged.network[0].weight, initial)


def test_the_steps_and_their_rates_are_counted_from_0(tmp_path: Path) -> None:
    counted, rates = training(), []
    counted.after_step = lambda step: rates.append((step, counted.optimiser.param_groups[0]["lr"]))
    loop.train(counted, ITEMS, run(tmp_path))
    assert rates == [(step, pytest.approx(0.05 * (1 - step / 8))) for step in range(8)]


def test_a_list_that_fills_no_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"a batch of 4 is larger than .* 3 examples; lower the batch to at most 3"):
        loop.train(training(), ITEMS[:3], run(tmp_path))


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="not finite"):
        loop.train(training(lr=1e30), ITEMS, run(tmp_path))


class Breaking(Objective):
    """Its loss is infinite at the step `at`, counted from 1, and at no other."""

    at = 0

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        losses, outputs = super().forward(batch, step)
        losses["fit"] = losses["fit"].detach() * torch.inf if step + 1 == self.at else losses["fit"]
        return losses, outputs


@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize(("at", "read_every"), [(1, 1), (2, 50), (5, 50), (5, 3), (8, 50)])
def test_the_step_of_a_loss_that_is_not_finite_is_told_however_late_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, read_every: int, looks: bool
) -> None:
    monkeypatch.setitem(loop.READ_EVERY, "cpu", read_every)
    seen, broken = [], training()
    broken.objective.__class__, broken.objective.at = Breaking, at
    report = (lambda step, losses, history: seen.append(dict(losses))) if looks else (lambda *_: None)
    with pytest.raises(WrongInput, match=rf"not finite at step {at} of 8 \(fit=inf, .*a lower learning rate may help"):
        loop.train(broken, ITEMS, run(tmp_path, report=report))
    assert not looks or [losses["fit"] < np.inf for losses in seen[:at]] == [True] * (at - 1) + [False]
    if kept := (tmp_path / checkpoint.CHECKPOINT).exists():  # an epoch has two steps
        state = torch.load(tmp_path / checkpoint.CHECKPOINT, weights_only=True)
        assert state["progress"]["step"] <= at - 1
        assert all(values.isfinite().all() for values in state["objective"].values())
    assert kept == (at > 2)


def test_losses_that_are_read_late_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = loop.train(training(accumulate=2), ITEMS, run(tmp_path / "at once"))
    monkeypatch.setitem(loop.READ_EVERY, "cpu", 50)
    seen: list[int] = []
    asked = {"report": lambda step, *_: seen.append(step), "asked_to_stop": lambda: len(seen) == 3}
    with pytest.raises(loop.Stopped):
        loop.train(training(accumulate=2), ITEMS, run(tmp_path / "late", **asked))
    assert loop.train(training(accumulate=2), ITEMS, run(tmp_path / "late")) == at_once


HALF = {"precision": "float16"}


@pytest.mark.parametrize("stop_at", [1, 3, 6])
def test_a_training_in_float16_resumes_bit_equal(tmp_path: Path, stop_at: int) -> None:
    whole, resumed = training(), training()
    history = loop.train(whole, ITEMS, run(tmp_path / "whole", **HALF))
    seen: list[int] = []
    asked = {"report": lambda step, *_: seen.append(step), "asked_to_stop": lambda: len(seen) == stop_at}
    with pytest.raises(loop.Stopped):
        loop.train(training(), ITEMS, run(tmp_path / "halted", **HALF, **asked))
    assert loop.train(resumed, ITEMS, run(tmp_path / "halted", **HALF)) == history
    assert same(whole.objective, resumed.objective)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_training_in_float16_stays_near_one_in_float32_whatever_the_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    plain, half = (training(dropout=0.0, accumulate=parts) for _ in range(2))
    expected = loop.train(plain, ITEMS, run(tmp_path / "float32"))
    monkeypatch.setattr(loop, "_scaler", lambda run: torch.amp.GradScaler("cpu", init_scale=64))  # leaves out no step
    history = loop.train(half, ITEMS, run(tmp_path / "float16", **HALF))
    assert history != expected
    for found, row in zip(history, expected, strict=True):
        assert found == pytest.approx(row, rel=0.02, abs=0.01)
    for name, values in plain.objective.state_dict().items():
        torch.testing.assert_close(half.objective.state_dict()[name], values, rtol=0.02, atol=0.01, msg=name)


class Steep(Objective):
    """Its gradients are so large that float16 does not hold them times the first scales; its losses it holds."""

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        outputs = self.network(batch["x"])
        return {"fit": ((outputs.half() - outputs.half().detach()) * 100).float().mean() + 1}, {"output": outputs}


def test_a_step_whose_gradients_overflow_in_float16_is_left_out_and_the_next_ones_have_a_smaller_scale(tmp_path: Path) -> None:
    steep, weights, scales = training(dropout=0.0), [], []
    steep.objective.__class__ = Steep
    steep.after_step = lambda step: weights.append(steep.network[2].weight.detach().clone())
    weights.append(steep.network[2].weight.detach().clone())

    def report(step: int, *_: object) -> None:
        if step % 2 == 1 and step > 1:  # after an epoch
            scales.append(torch.load(tmp_path / checkpoint.CHECKPOINT, weights_only=True)["scaler"]["scale"])

    history = loop.train(steep, ITEMS, run(tmp_path, **HALF, report=report))
    moved = [not torch.equal(before, after) for before, after in itertools.pairwise(weights)]
    assert not moved[0] and moved[-1] and moved == sorted(moved)  # from some step on
    assert scales == sorted(scales, reverse=True) and scales[0] < 65536
    assert all(row["fit"] == 1 for row in history)


@pytest.mark.parametrize(("world", "parts", "match"), [(3, 1, "among 3 workers; "), (2, 4, "in 4 parts each; .* multiple of 8")])
def test_a_batch_that_workers_cannot_share_is_refused(tmp_path: Path, world: int, parts: int, match: str) -> None:
    with pytest.raises(WrongInput, match=f"does not divide .*{match}"):
        loop.train(training(accumulate=parts), ITEMS, run(tmp_path, world=world))


def test_a_fenced_attempt_leaves_no_checkpoint(tmp_path: Path) -> None:
    def fence() -> None:
        raise RuntimeError("another attempt")

    with pytest.raises(RuntimeError, match="another attempt"):
        loop.train(training(), ITEMS, run(tmp_path, fence=fence))
    assert not (tmp_path / checkpoint.CHECKPOINT).exists()


def test_checkpoints_lie_apart_by_the_seconds_asked_for(tmp_path: Path) -> None:
    often, seldom = tmp_path / "often", tmp_path / "seldom"
    histories = [loop.train(training(), ITEMS, run(often)), loop.train(training(), ITEMS, run(seldom, checkpoint_seconds=1000.0))]
    assert (often / checkpoint.CHECKPOINT).exists()
    assert not (seldom / checkpoint.CHECKPOINT).exists()
    assert histories[0] == histories[1]


def test_a_training_with_a_damaged_checkpoint_begins_anew_and_tells_it(tmp_path: Path) -> None:
    loop.train(training(), ITEMS, run(tmp_path))
    path = tmp_path / checkpoint.CHECKPOINT
    whole = path.read_bytes()
    assert not checkpoint.damaged(path)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    places = bytearray(whole)
    places[-44] ^= 1  # the place of the end record, which then lies before the file
    for content in (places, whole[:500], b"", whole[:-1], whole[: len(whole) // 2], changed):
        path.write_bytes(content)
        assert checkpoint.damaged(path)

    def train(job: Any) -> Spent:
        assert not path.exists()
        (tmp_path / NETWORK).write_bytes(b"network")
        return Spent()

    told: list[str] = []
    attempt = SimpleNamespace(file=tmp_path.__truediv__, remove=lambda name: (tmp_path / name).unlink(missing_ok=True))
    attempt.following = nullcontext
    display = SimpleNamespace(start=lambda *_, **__: None, update=lambda *_: None, say=told.append)
    making = Making(cast(Any, SimpleNamespace(train=train)), cast(Any, display))
    figures = making.train(cast(Any, SimpleNamespace(attempt=attempt, folder=tmp_path)), "cam-network")
    assert told == [f"warning: cam-network: the checkpoint {path} is damaged, so the training begins anew"]
    assert not figures["partial"]
