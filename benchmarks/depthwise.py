"""Depthwise convolutions in bfloat16: forward and backward as torch computes them, and with float32 inside, as trainings do.

    python -m benchmarks.depthwise

One CPU thread. The last line is a MobileNetV2 on 16 images of 224 pixels.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

import backbones
from backbones.depthwise import DepthwiseConv2d, has_slow_gradients
from backbones.layout import move
from backbones.mobilenet import mobilenetv2
from backbones.quickening import quicken
from benchmarks.clock import median_time
from training.memory import kept_memory

CPU = torch.device("cpu")
# images, channels, side, filter, stride, dilation; the last is one that stays in bfloat16
SHAPES = ((16, 144, 56, 3, 2, 1), (16, 960, 14, 3, 2, 1), (16, 240, 28, 5, 1, 1), (8, 576, 20, 3, 1, 2), (16, 144, 56, 3, 1, 1))


def step(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, seen: torch.Tensor) -> None:
    """Forward in bfloat16 and backward from the gradient `seen`."""
    with torch.autocast("cpu", torch.bfloat16):
        made = network(images)
    made.backward(seen)


def seconds(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> float:
    """The median CPU seconds of a step, after one that warms up."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        seen = torch.randn_like(network(images))
    step(network, images, seen)
    return median_time(partial(step, network, images, seen))[1]


def drawn(count: int, channels: int, side: int) -> torch.Tensor:
    """Drawn images, channels last, whose gradient is asked for."""
    return torch.randn(count, channels, side, side).to(memory_format=torch.channels_last).requires_grad_()


def gradient(network: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """The gradient of the filters for a gradient of ones."""
    with torch.autocast("cpu", torch.bfloat16):
        made = network(images)
    (found,) = torch.autograd.grad(made, [network.weight], torch.ones_like(made))
    return found


def main() -> None:
    """Print a line for each shape and one for a network; fails where the gradients of the filters differ."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with kept_memory():
        for count, channels, side, filter, stride, dilation in SHAPES:
            padding = dilation * (filter // 2)
            plain = nn.Conv2d(channels, channels, filter, stride, padding, dilation, channels, bias=False)
            ours = DepthwiseConv2d(channels, channels, filter, stride, padding, dilation, channels, bias=False)
            ours.load_state_dict(plain.state_dict())
            images = drawn(count, channels, side)
            found, expected = gradient(ours, images), gradient(plain, images)
            assert (found - expected).norm() < 0.02 * expected.norm()
            slow, fast = seconds(plain, images), seconds(ours, images)
            chosen = "float32" if has_slow_gradients(plain) else "bfloat16"
            print(
                f"{count} x {channels} of {side}x{side}, filter {filter}, stride {stride}, dilation {dilation}: "
                f"bfloat16 {slow * 1e3:.1f} ms, float32 inside {fast * 1e3:.1f} ms; trainings take {chosen}"
            )
        network = move(backbones.build(mobilenetv2, stride=16, weights="none", frozen_statistics=False), CPU).train()
        images, times = drawn(16, 3, 224), []
        for prepare in (lambda network: None, quicken):
            prepare(network)
            times.append(seconds(lambda images: network(images)[-1], images))
        print(f"MobileNetV2, 16 x 224x224: bfloat16 {times[0]:.3f} s, as trainings compute it {times[1]:.3f} s")


if __name__ == "__main__":
    main()
