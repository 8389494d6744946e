"""A step of a training in two forms, ours and a published or plain one: its options, its cost, and whether results are equal."""

import argparse
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import nn

from benchmarks.clock import measured
from orchestrator.planning.recipes import entries

CLASSES = 20  # of PASCAL VOC
Batch = dict[str, torch.Tensor]
Total = Callable[[], torch.Tensor]  # the sum of the losses of a step
Stepped = tuple[torch.Tensor, torch.Tensor]  # that sum, and the gradient of all weights


def parser(description: str | None, backbone: str, crop: int, batch: int, rounds: int) -> argparse.ArgumentParser:
    """The options of a step, with these defaults."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--backbone", default=backbone, choices=sorted(entries("backbone")))
    made.add_argument("--crop", type=int, default=crop, help="side of the images in pixels")
    made.add_argument("--batch", type=int, default=batch)
    made.add_argument("--rounds", type=int, default=rounds)
    return made


def summed(losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The sum of all losses."""
    return torch.stack([*losses.values()]).sum()


def step(network: nn.Module, total: Total) -> torch.Tensor:
    """The sum of the losses; the gradient is left in the network."""
    network.zero_grad()
    loss = total()
    loss.backward()
    return loss.detach()


def gradient(network: nn.Module) -> torch.Tensor:
    """The gradient of all weights."""
    return torch.cat([own.grad.flatten() for own in network.parameters() if own.grad is not None])


def stepped(network: nn.Module, total: Total) -> Stepped:
    """The sum of the losses, and the gradient of all weights."""
    return step(network, total), gradient(network)


def costs(network: nn.Module, total: Total, rounds: int) -> tuple[Stepped, float, float]:
    """As `stepped`, and the CPU seconds and MB that a step takes."""
    step(network, total)  # what stays, such as gradients, is no rise
    loss, seconds, rise = measured(lambda: step(network, total), rounds)
    return (loss, gradient(network)), seconds, rise


def apart(found: Stepped, expected: Stepped, most: float = 1e-2) -> float:
    """The distance of two gradients as a share of the expected one; fails if it is above `most` or the losses differ."""
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-6)
    share = ((found[1] - expected[1]).norm() / expected[1].norm()).item()
    assert share < most, f"gradients are {share:.1e} apart"
    return share


def compared(
    name: str, options: argparse.Namespace, form: Callable[[str], tuple[Stepped, float, float]], most: float = 1e-2
) -> str:
    """A line on `costs` in the two forms, which `form("ours")` and `form("published")` measure; fails where results differ."""
    found = []
    for own in ("ours", "published"):  # each in a new process: memory that was given back is not measured again
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found.append(process.submit(form, own).result())
    (ours, seconds, rise), (published, their_seconds, their_rise) = found
    return (
        f"a step of {name} on {options.backbone}, B={options.batch}, K={CLASSES}, {options.crop} px, one thread: "
        f"published {their_seconds:.2f} s, {their_rise:.0f} MB -> ours {seconds:.2f} s, {rise:.0f} MB "
        f"({their_seconds / seconds:.2f}x, {their_rise / rise:.2f}x), gradients {apart(ours, published, most):.0e} apart"
    )
