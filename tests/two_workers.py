"""A training that two processes share, with a note of the images that each saw; `test_loop_workers.py` runs it."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from torch import distributed, multiprocessing, nn

from imagesets.item import Item
from training import loop
from training.group import run_in_group
from training.stage import Losses, Outputs, Settings, Training

ITEMS = [Item(str(number), Path("none.png"), ()) for number in range(16)]
BATCH, STEPS = 4, 8


class Objective(nn.Module):
    """Plain means over a batch, but for `rare`, which only the images below 8 have; `late` begins at step 4, `early` ends there.

    `ahead` and `behind` are reached by those losses alone, and `idle` by none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network, self.ahead, self.behind, self.idle = (nn.Linear(3, 1) for _ in range(4))
        self.seen: list[list[int]] = []
        self.noise: list[float] = []

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        self.seen.append(batch["number"].tolist())
        self.noise.append(torch.rand(()).item())  # what dropout would draw
        losses = {"fit": (self.network(batch["x"]) - batch["y"]).square().mean()}
        if step < STEPS // 2:
            losses["early"] = self.ahead(batch["x"]).square().mean()
        else:
            losses["late"] = self.behind(batch["x"]).square().mean()
        if (batch["number"] < 8).any():
            losses["rare"] = torch.tensor(1.0)
        return losses, {"idle": self.idle(batch["x"])}


def sample(item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    x = torch.from_numpy(rng.standard_normal(3).astype(np.float32))
    return {"x": x, "y": x.sum(0, keepdim=True), "number": torch.tensor(int(item.id))}


def train(folder: Path, rank: int, world: int, accumulate: int = 1, stop_at: int = 0) -> None:
    """Train and write the weights, the history and what this worker saw; stops before step `stop_at` if it is not 0."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    objective = Objective()
    optimiser = torch.optim.SGD([{"params": objective.parameters(), "lr": 0.05}], momentum=0.9)
    training = Training(objective.network, objective, sample, optimiser, lambda step: 1.0, BATCH, STEPS, accumulate=accumulate)
    folder.mkdir(exist_ok=True)
    settings = Settings({"precision": "float32", "loaders": 0, "ema": 0.9, "graphs": True})
    asked = rank == 1 and stop_at > 0
    run = loop.Run(
        ("test",),
        folder,
        settings,
        torch.device("cpu"),
        rank,
        world,
        asked_to_stop=lambda: asked and len(objective.seen) == stop_at,
    )
    try:
        history = loop.train(training, ITEMS, run)
    except loop.Stopped:
        return
    told = {"seen": objective.seen, "noise": objective.noise, "history": history}
    (folder / f"{rank}.json").write_text(json.dumps(told))
    torch.save(objective.state_dict(), folder / f"{rank}.pt")


def _worker(rank: int, folder: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    run_in_group(lambda: _train_all(folder, rank), "gloo", folder, rank, 2)


def _train_all(folder: Path, rank: int) -> None:
    train(folder / "two", rank, 2)
    train(folder / "parts", rank, 2, accumulate=2)
    train(folder / "halted", rank, 2, stop_at=5)
    distributed.barrier()  # rank 0 writes the checkpoint that both go on from
    train(folder / "halted", rank, 2)


def run_all(folder: Path) -> None:
    """One training by one worker, by two, by two with two parts each, and by two that were stopped on the way."""
    train(folder / "one", 0, 1)
    multiprocessing.spawn(_worker, (folder,), nprocs=2)  # type: ignore[attr-defined]
