"""Every backbone at its published size on one CPU thread: a forward pass and a training step, ours beside the plain form.

Run from the repository root: python -m benchmarks.backbones [--backbones swin_t,resnet38d] [--side 64]   (five minutes)

A forward pass is of one image, a step (forward and backward of the mean of the last tap) of two, with drawn weights and without
dropout. The plain form is the same layers as torch computes them; ours has folded batch norms in the forward pass, 1x1
convolutions by oneDNN, and channels last. Seconds are CPU seconds; MB are how much the peak of memory rose in ours. `apart` is
the largest relative difference of the last tap.
"""

import argparse
import copy
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import nn

import backbones
from backbones import Backbone
from backbones.extraction import for_extraction
from backbones.layout import move
from backbones.quickening import quicken
from benchmarks.clock import measured
from benchmarks.published.rounds import largest
from orchestrator.planning.recipes import entries
from orchestrator.planning.references import resolve

CPU = torch.device("cpu")
# pixels of the published crops; of the others 224, ImageNet's
SIDES = {"small": 128, "small_vit": 128, "resnet38d": 448}
SIDES |= dict.fromkeys(("resnet50", "resnet101", "swin_t", "swin_s", "swin_b"), 512)
COLUMNS = ("backbone", "side", "parameters, M", "forward, s", "plain", "MB", "apart", "step, s", "plain", "MB")


def built(name: str) -> Backbone:
    """A backbone with drawn weights, in which nothing is left to chance in training."""
    torch.manual_seed(0)
    backbone = backbones.build(resolve(entries("backbone")[name]), frozen_statistics=True)
    for module in backbone.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return backbone


def forward(backbone: Backbone, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """The last tap of one image."""
    return torch.inference_mode()(lambda: backbone(images[:1])[-1])


def step(backbone: Backbone, images: torch.Tensor) -> Callable[[], None]:
    """A forward and a backward pass."""

    def work() -> None:
        backbone.train().zero_grad()
        backbone(images)[-1].square().mean().backward()

    return work


def line(name: str, side: int) -> str:
    """What one backbone takes, as a line of a Markdown table. Ours comes first: what is freed hides what is taken after it."""
    torch.set_num_threads(1)
    plain, images = built(name).eval(), torch.randn(2, 3, side, side)
    ours = for_extraction(copy.deepcopy(plain), "float32", CPU)
    trained = move(copy.deepcopy(plain), CPU)
    quicken(trained)
    found, own_forward, forward_memory = measured(forward(ours, images))  # type: ignore[arg-type]
    _, own_step, step_memory = measured(step(trained, images))  # type: ignore[arg-type]
    expected, plain_forward, _ = measured(forward(plain, images))
    _, plain_step, _ = measured(step(plain, images))
    parameters = sum(value.numel() for value in plain.parameters()) / 1e6
    seconds = f"{own_forward:.2f} | {plain_forward:.2f} | {forward_memory:.0f} | {largest(found, expected):.0e}"
    return f"| {name} | {side} | {parameters:.1f} | {seconds} | {own_step:.2f} | {plain_step:.2f} | {step_memory:.0f} |"


def main() -> None:
    """Measure the backbones one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", type=lambda text: text.split(","), default=list(entries("backbone")))
    parser.add_argument("--side", type=int, default=0, help="side of the images; 0: the published one")
    options = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", sep="\n")
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for name in options.backbones:
            print(fresh.submit(line, name, options.side or SIDES.get(name, 224)).result(), flush=True)


if __name__ == "__main__":
    main()
