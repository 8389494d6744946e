"""Where and as what a training runs, and what its workers settle with one another through torch.distributed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.stage import Settings

Value = TypeVar("Value")


@dataclass(frozen=True)
class Run:
    """Where and as what a training runs: `purpose` names its random numbers, `folder` keeps its checkpoint.

    `report(step, losses, history)` is called after every step on rank 0, with the mean losses of the epochs before;
    `asked_to_stop()` before every step; `fence()` before every write raises where another attempt has taken over.
    """

    purpose: tuple[object, ...]
    folder: Path
    settings: Settings  # training.*: precision, loaders, ema
    device: torch.device
    rank: int = 0
    world: int = 1
    report: Callable[[int, dict[str, float], list[dict[str, float]]], None] = lambda step, losses, history: None
    asked_to_stop: Callable[[], bool] = lambda: False
    fence: Callable[[], None] = lambda: None

    def connected(self, module: nn.Module) -> nn.Module:
        """The module, whose gradients become those of the whole batch where several workers share it."""
        if self.world == 1:
            return module
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # the one that NCCL gathers objects on
        # parameters may be without gradient in some steps: a loss begins later, or one worker's images do not have it; one
        # parameter always is, because DDP warns on the terminal where it looks for such and there are none
        module.register_parameter("without_gradient", nn.Parameter(torch.zeros((), device=self.device)))
        return DistributedDataParallel(module, find_unused_parameters=True)

    def agreed_to_stop(self) -> bool:
        """Whether any worker was asked to stop: all must leave the loop at the same step."""
        wish = self.asked_to_stop()
        if self.world == 1:
            return wish
        flag = torch.tensor(float(wish), device=self.device)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag.item())

    def of_all(self, own: Value) -> list[Value]:
        """The values of all workers, by rank; each must call this."""
        if self.world == 1:
            return [own]
        every: list[Value] = [own] * self.world
        distributed.all_gather_object(every, own)
        return every
