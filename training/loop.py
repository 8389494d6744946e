"""The one loop that trains every network: classifiers, AMN, IRN, segmenters.

It runs in one process, or in several that torch.distributed connects. (Ray Train starts those; this module does not use Ray.)
All random numbers are derived from (random seed, stage, epoch, place in the epoch). A training that was killed and resumed
from its checkpoint therefore ends bit-equal to an undisturbed one with the same number of workers and threads.
"""

import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from math import isfinite

import torch
from torch import nn

from backbones.graphs import Graphs
from backbones.layout import move
from backbones.precision import compute_in
from backbones.quickening import quicken
from imagesets.errors import WrongInput
from imagesets.item import Item
from training import checkpoint
from training.average import Average
from training.batches import batches, check_shares
from training.checkpoint import Progress, Seen
from training.memory import kept_memory
from training.randomness import seed_torch
from training.run import Run
from training.stage import Losses, Training
from training.step_losses import StepLosses, means, read
from training.transfer import Batch, to_device

READ_EVERY = {"cpu": 1, "cuda": 50}  # steps between two looks at the losses, for which a GPU waits


class Stopped(Exception):
    """The training was asked to stop and has written its checkpoint; the same command continues it."""


@kept_memory()
def train(training: Training, items: Sequence[Item], run: Run) -> list[dict[str, float]]:
    """Train on `items` to the last step; returns the named losses of each epoch, each the mean over the steps that had it.

    It continues from the checkpoint in `run.folder` if there is one. Raises Stopped when it was asked to stop, after writing the
    checkpoint; raises WrongInput if a loss is not finite, a batch does not divide, or an epoch's examples fill no batch.
    """
    check_shares(training, run.world)
    _prepare(training, run)
    average, scaler = Average(training.network, run.settings.ema), _scaler(run)
    kept: dict[str, checkpoint.Stateful] = {
        "objective": training.objective,
        "optimiser": training.optimiser,
        "average": average,
        "scaler": scaler,
    }
    progress, unread = checkpoint.load(kept, run), list[StepLosses]()
    objective, saved, graphs = run.connected(_Total(training.objective)), time.monotonic(), Graphs()
    with closing(batches(training, items, run, progress)) as shares, _served(graphs, training, run):
        for parts, last in shares:
            graphs.begin_step()
            if run.agreed_to_stop():
                _read(unread, progress, training, run)
                checkpoint.save(kept, progress, run)
                raise Stopped(f"stopped at step {progress.step} of {training.steps}")
            unread.append(_update(training, objective, scaler, parts, progress.step, run))
            average.update()
            progress.count()
            run.report(progress.step, unread[-1], progress.history)
            if last or progress.step % READ_EVERY[run.device.type] == 0:
                _read(unread, progress, training, run)
            if last and _end_epoch(progress, run, saved):
                checkpoint.save(kept, progress, run)
                saved = time.monotonic()
    average.deliver()
    if training.finish is not None:
        training.network.eval()
        training.finish()
    return progress.history


def _prepare(training: Training, run: Run) -> None:
    """Move the objective to the device, in the layout and the precision of the run, and note the base rates of the optimiser."""
    move(training.objective, run.device).train()
    quicken(training.objective)
    compute_in(training.objective, run.settings.precision)
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # of 1x1 convolutions, whose two layouts are one
    for group in training.optimiser.param_groups:
        group["base_lr"] = group["lr"]


def _served(graphs: Graphs, training: Training, run: Run) -> AbstractContextManager[None]:
    """Let `graphs` serve the objective if its gradients are those of one backward pass, in this process alone."""
    alone = run.world == 1 and training.accumulate == 1
    return graphs.serving(training.objective) if alone and run.settings.graphs else nullcontext()


def _end_epoch(progress: Progress, run: Run, saved: float) -> bool:
    """Close the epoch with the mean losses of all workers; whether a checkpoint is due, which was last written at `saved`."""
    seen, due = zip(*run.of_all((progress.seen, time.monotonic() - saved >= run.checkpoint_seconds)), strict=True)
    progress.end_epoch(_means(seen))
    return due[0]  # the first worker's clock decides for all


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
        return total, {name: loss.detach().float() for name, loss in losses.items()}


def _scaler(run: Run) -> torch.amp.GradScaler:
    """Multiplies losses so that no gradient vanishes in float16; where one overflows, the optimiser leaves out the step."""
    return torch.amp.GradScaler(run.device.type, enabled=run.settings.precision == "float16")


def _update(
    training: Training, objective: nn.Module, scaler: torch.amp.GradScaler, parts: Sequence[Batch], step: int, run: Run
) -> StepLosses:
    """Update the weights once; returns the losses."""
    factor = training.schedule(step)
    for group in training.optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
    seed_torch(*run.purpose, "step", step, run.rank)  # for dropout and similar layers
    training.optimiser.zero_grad(set_to_none=True)
    found = []
    for number, part in enumerate(parts, start=1):
        alone = run.world == 1 or number == len(parts)  # workers exchange gradients once, after the last part
        with nullcontext() if alone else objective.no_sync():  # type: ignore[operator]
            total, losses = objective(to_device(part, run.device), step)
            scaler.scale(total / len(parts)).backward()
        found.append(losses)
    scaler.step(training.optimiser)
    scaler.update()
    if training.after_step is not None:
        training.after_step(step)
    return StepLosses(found)


def _read(unread: list[StepLosses], progress: Progress, training: Training, run: Run) -> None:
    """Add the losses of the last steps to the progress. Raises WrongInput in all workers if a worker's are not finite."""
    found, first = read(unread), progress.step - len(unread) + 1
    broken = [(step, losses) for step, losses in enumerate(found, start=first) if not all(map(isfinite, losses.values()))]
    if every := [one for own in run.of_all(broken) for one in own]:
        step, losses = min(every, key=lambda one: one[0])
        told = ", ".join(f"{name}={value:.3g}" for name, value in losses.items())
        raise WrongInput(f"the loss is not finite at step {step} of {training.steps} ({told}); a lower learning rate may help")
    for losses in found:
        progress.note(losses)
    unread.clear()


def _means(workers: Sequence[Seen]) -> dict[str, float]:
    """The mean of each named loss over its values in all workers."""
    return means([(name, value) for seen in workers for name, values in seen.items() for value in values])
