"""The one loop that trains every network: classifiers, AMN, IRN, segmenters.

It runs in one process or in several that torch.distributed connects (Ray Train starts those; nothing here knows Ray).
Everything random is derived from (random seed, stage, epoch, image), so a training that was killed and resumed from its
checkpoint ends bit-equal to an undisturbed one at the same number of workers and threads.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from imagesets.errors import WrongInput
from imagesets.item import Item
from training.randomness import generator, seed_torch
from training.stage import Settings, Task

CHECKPOINT = "checkpoint.pt"


class Stopped(Exception):
    """The training was asked to stop; its checkpoint is written and the same command continues it."""


@dataclass(frozen=True)
class Run:
    """Where and as what a task trains: `purpose` names its random numbers, `folder` keeps its checkpoint.

    `report(step, losses, history)` is called after every step on rank 0, with the losses of the epochs before;
    `asked_to_stop()` before every step; `fence()` before every write raises where another attempt has taken over.
    """

    purpose: tuple[object, ...]
    folder: Path
    settings: Settings  # training.*: workers, threads, precision, loaders
    device: torch.device
    rank: int = 0
    world: int = 1
    report: Callable[[int, dict[str, float], list[dict[str, float]]], None] = lambda step, losses, history: None
    asked_to_stop: Callable[[], bool] = lambda: False
    fence: Callable[[], None] = lambda: None


class _Samples(Dataset):
    """The training examples of one epoch, each drawn with its own generator whatever process loads it."""

    def __init__(self, task: Task, items: Sequence[Item], purpose: tuple[object, ...], epoch: int):
        self.task, self.items, self.purpose, self.epoch = task, items, purpose, epoch

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        item = self.items[index]
        return self.task.sample(item, generator(*self.purpose, "sample", self.epoch, item.id))


def train(task: Task, items: Sequence[Item], run: Run) -> list[dict[str, float]]:
    """Train `task` on `items` to its last step and return the mean named losses of each epoch.

    Continues from the checkpoint in `run.folder` where there is one. Raises Stopped after checkpointing when asked to, and
    WrongInput where a loss is not finite.
    """
    if task.batch % run.world:
        raise WrongInput(f"a batch of {task.batch} does not divide among {run.world} workers; choose a multiple")
    # channels last: convolutions are a fifth faster on CPUs, and mixed precision on GPUs wants it
    task.step.to(run.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # of 1x1 convolutions, whose two layouts are one
    step, sums, history = _resume(task, run)
    wrapped = DistributedDataParallel(task.step) if run.world > 1 else task.step
    per_epoch = max(len(items) // task.batch, 1)
    while step < task.steps:
        epoch = step // per_epoch
        for batch in _batches(task, items, run, epoch, step % per_epoch):
            if _agreed(run.asked_to_stop(), run):
                _save(task, run, step, _mean_over_workers(sums, 1, run), history)
                raise Stopped(f"stopped at step {step} of {task.steps}")
            losses = _step(task, wrapped, batch, step, run)
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
            step += 1
            run.report(step, losses, history)
            if step == task.steps:
                break
        steps_in_epoch = step - epoch * per_epoch
        history.append({"epoch": epoch + 1, **_mean_over_workers(sums, steps_in_epoch, run)})
        sums = {}
        _save(task, run, step, sums, history)
    if task.finish is not None:
        task.network.eval()
        task.finish()
    return history


def _batches(task: Task, items: Sequence[Item], run: Run, epoch: int, done: int) -> Iterator[dict[str, torch.Tensor]]:
    """This worker's share of every batch of an epoch that is not done yet; an incomplete last batch is dropped."""
    order = generator(*run.purpose, "order", epoch).permutation(len(items))
    whole = [order[start : start + task.batch] for start in range(0, len(items) - task.batch + 1, task.batch)]
    shares = [batch[run.rank :: run.world].tolist() for batch in whole[done:]]
    samples = _Samples(task, items, run.purpose, epoch)
    return iter(DataLoader(samples, batch_sampler=shares, num_workers=run.settings.loaders))


def _step(task: Task, wrapped: torch.nn.Module, batch: dict[str, torch.Tensor], step: int, run: Run) -> dict[str, float]:
    """One optimisation step; returns the named losses."""
    progress = step / task.steps
    factor = task.schedule(progress)
    for group in task.optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
    seed_torch(*run.purpose, "step", step, run.rank)  # dropout and the like
    batch = {name: values.to(run.device, non_blocking=True) for name, values in batch.items()}
    precision = getattr(torch, run.settings.precision)
    with torch.autocast(run.device.type, dtype=precision, enabled=precision is not torch.float32):
        losses = wrapped(batch, progress)
    total = torch.stack([loss.float() for loss in losses.values()]).sum()
    if not torch.isfinite(total):
        found = ", ".join(f"{name}={loss.item():.3g}" for name, loss in losses.items())
        raise WrongInput(f"the loss is not finite at step {step + 1} of {task.steps} ({found}); a lower learning rate may help")
    task.optimiser.zero_grad(set_to_none=True)
    total.backward()
    task.optimiser.step()
    return {name: loss.item() for name, loss in losses.items()}


def _agreed(wish: bool, run: Run) -> bool:
    """Whether any worker was asked to stop: all must leave the loop at the same step."""
    if run.world == 1:
        return wish
    flag = torch.tensor(float(wish), device=run.device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag.item())


def _mean_over_workers(sums: dict[str, float], steps: int, run: Run) -> dict[str, float]:
    values = torch.tensor([sums[name] / steps for name in sums], dtype=torch.float64, device=run.device)
    if run.world > 1:
        distributed.all_reduce(values)
        values /= run.world
    return dict(zip(sums, values.tolist(), strict=True))


def _resume(task: Task, run: Run) -> tuple[int, dict[str, float], list[dict[str, float]]]:
    """Load the checkpoint if there is one; the first step to do, the loss sums of a begun epoch, the history."""
    for group in task.optimiser.param_groups:
        group["base_lr"] = group["lr"]
    path = run.folder / CHECKPOINT
    if not path.exists():
        return 0, {}, []
    state = torch.load(path, map_location=run.device, weights_only=True)
    task.step.load_state_dict(state["step_module"])
    task.optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["sums"], state["history"]


def _save(task: Task, run: Run, step: int, sums: dict[str, float], history: list[dict[str, float]]) -> None:
    if run.rank != 0:
        return
    modules = {"step_module": task.step.state_dict(), "optimiser": task.optimiser.state_dict()}
    save_atomically({"step": step, "sums": sums, "history": history, **modules}, run.folder / CHECKPOINT, run.fence)


def save_atomically(state: object, path: Path, fence: Callable[[], None] = lambda: None) -> None:
    """Write `state` with torch.save so that `path` is the old file or the new one, never half of either."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    fence()
    os.replace(partial, path)


def set_threads(threads: int) -> None:
    """Use `threads` threads in torch and none of OpenCV's own."""
    import cv2  # only processes that compute need it

    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
