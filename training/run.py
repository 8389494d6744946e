"""Where a training runs and for what purpose, and how its workers agree through torch.distributed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.stage import Settings

Value = TypeVar("Value")


@dataclass(frozen=True)
class Run:
    """Where a training runs: `purpose` names its random numbers, `folder` keeps its checkpoint.

    A checkpoint is written where an epoch ends, but not sooner than `checkpoint_seconds` after the last one.
    `report(step, losses, history)` is called on rank 0 after every step, with the mean losses of the earlier epochs. Looking at
    the step's losses makes it wait for the device.
    `asked_to_stop()` is called before every step, `fence()` before every write; it raises if another attempt has taken over.
    """

    purpose: tuple[object, ...]
    folder: Path
    settings: Settings  # training.*: precision, loaders, ema
    device: torch.device
    rank: int = 0
    world: int = 1
    checkpoint_seconds: float = 0.0
    report: Callable[[int, Mapping[str, float], list[dict[str, float]]], None] = lambda step, losses, history: None
    asked_to_stop: Callable[[], bool] = lambda: False
    fence: Callable[[], None] = lambda: None

    def connected(self, module: nn.Module) -> nn.Module:
        """The module; if several workers share a batch, its gradients become those of the whole batch."""
        if self.world == 1:
            return module
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # where NCCL works
        synchronise(module, self.device)
        # parameters may have no gradient in some steps: a loss begins later, or one worker's images do not have it. One extra
        # parameter never has a gradient, because DDP prints a warning if it looks for such parameters and finds none
        module.register_parameter("without_gradient", nn.Parameter(torch.zeros((), device=self.device)))
        return DistributedDataParallel(module, find_unused_parameters=True)

    def agreed_to_stop(self) -> bool:
        """Whether any worker was asked to stop; all workers must leave the loop at the same step."""
        wish = self.asked_to_stop()
        if self.world == 1:
            return wish
        flag = torch.tensor(float(wish))
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=self._on_cpus)
        return bool(flag.item())

    def of_all(self, own: Value) -> list[Value]:
        """The values of all workers, by rank; every worker must call this."""
        if self.world == 1:
            return [own]
        every: list[Value] = [own] * self.world
        distributed.all_gather_object(every, own, group=self._on_cpus)
        return every

    @cached_property
    def _on_cpus(self) -> distributed.ProcessGroup:
        """The group in which workers agree; NCCL's would make each of them wait for its GPU."""
        return distributed.new_group(backend="gloo")


def synchronise(module: nn.Module, device: torch.device) -> None:
    """On a GPU, let the batch norms within a module take the statistics of all workers' shares of a batch.

    Batch norms with fixed statistics stay as they are. Torch has no such layer for CPUs: there each worker normalises its own
    share, and the running statistics are those of the first worker.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # in place; parameters stay the same objects
