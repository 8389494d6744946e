"""The one loop that trains every network: classifiers, AMN, IRN, segmenters.

It runs in one process, or in several that torch.distributed connects. (Ray Train starts those; this module does not use Ray.)
All random numbers are derived from (random seed, stage, epoch, place in the epoch). A training that was killed and resumed
from its checkpoint therefore ends bit-equal to an undisturbed one with the same number of workers and threads.
"""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from statistics import fmean

import torch
from torch import nn

from backbones.pointwise import quicken
from backbones.precision import compute_in
from imagesets.errors import WrongInput
from imagesets.item import Item
from training import checkpoint
from training.average import Average
from training.batches import Batch, batches, check_shares
from training.checkpoint import Seen
from training.randomness import seed_torch
from training.run import Run
from training.stage import Losses, Training


class Stopped(Exception):
    """The training was asked to stop and has written its checkpoint; the same command continues it."""


def train(training: Training, items: Sequence[Item], run: Run) -> list[dict[str, float]]:
    """Train on `items` to the last step; returns the named losses of each epoch, each the mean over the steps that had it.

    It continues from the checkpoint in `run.folder` if there is one. Raises Stopped when it was asked to stop, after writing the
    checkpoint; raises WrongInput if a loss is not finite, a batch does not divide, or an epoch's examples fill no batch.
    """
    check_shares(training, run.world)
    # channels last: convolutions are a fifth faster on CPUs, and mixed precision on GPUs needs it
    training.objective.to(run.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    quicken(training.objective)
    compute_in(training.objective, run.settings.precision)
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # of 1x1 convolutions, whose two layouts are one
    for group in training.optimiser.param_groups:
        group["base_lr"] = group["lr"]
    average = Average(training.network, run.settings.ema)
    progress = checkpoint.load(training, average, run)
    objective = run.connected(_Total(training.objective))
    while progress.step < training.steps:
        for parts in batches(training, items, run, len(progress.history), progress.done):
            if run.agreed_to_stop():
                checkpoint.save(training, average, progress, run)
                raise Stopped(f"stopped at step {progress.step} of {training.steps}")
            losses = _update(training, objective, parts, progress.step, run)
            average.update()
            progress.note(losses)
            run.report(progress.step, losses, progress.history)
            if progress.step == training.steps:
                break
        progress.end_epoch(_means(run.of_all(progress.seen)))
        checkpoint.save(training, average, progress, run)
    average.deliver()
    if training.finish is not None:
        training.network.eval()
        training.finish()
    return progress.history


class _Total(nn.Module):
    """An objective that returns the sum of its losses; DDP wraps it.

    It does not return the outputs: DDP would wait for gradients of all parameters behind them, even if no loss needs them.
    """

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, step: int) -> tuple[torch.Tensor, Losses]:
        losses, _ = self.objective(batch, step)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        return total, {name: loss.detach() for name, loss in losses.items()}


def _update(training: Training, objective: nn.Module, parts: Sequence[Batch], step: int, run: Run) -> dict[str, float]:
    """Update the weights once; returns the named losses, each the mean over the parts that had it."""
    factor = training.schedule(step)
    for group in training.optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
    seed_torch(*run.purpose, "step", step, run.rank)  # for dropout and similar layers
    training.optimiser.zero_grad(set_to_none=True)
    seen: Seen = {}
    for number, part in enumerate(parts, start=1):
        alone = run.world == 1 or number == len(parts)  # workers exchange gradients once, after the last part
        with nullcontext() if alone else objective.no_sync():  # type: ignore[operator]
            total, losses = _forward(training, objective, part, step, run)
            (total / len(parts)).backward()
        for name, loss in losses.items():
            seen.setdefault(name, []).append(loss.item())
    training.optimiser.step()
    if training.after_step is not None:
        training.after_step(step)
    return _means([seen])


def _forward(training: Training, objective: nn.Module, part: Batch, step: int, run: Run) -> tuple[torch.Tensor, Losses]:
    """The sum of the losses of a part of a batch, and the losses by name."""
    batch = {name: values.to(run.device, non_blocking=True) for name, values in part.items()}
    total, losses = objective(batch, step)
    if not torch.isfinite(total):
        found = ", ".join(f"{name}={loss.item():.3g}" for name, loss in losses.items())
        raise WrongInput(
            f"the loss is not finite at step {step + 1} of {training.steps} ({found}); a lower learning rate may help"
        )
    return total, losses


def _means(workers: Sequence[Seen]) -> dict[str, float]:
    """The mean of each named loss over its values in all workers."""
    names = dict.fromkeys(name for seen in workers for name in seen)
    return {name: fmean(value for seen in workers for value in seen.get(name, ())) for name in names}


def set_threads(threads: int) -> None:
    """Use `threads` threads in torch, and no threads of OpenCV's own."""
    import cv2  # imported here because only processes that compute need it

    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
