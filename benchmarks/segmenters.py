"""Every segmenter at its published size on one CPU thread: a forward pass and a training step, ours beside the plain form.

Run from the repository root: python -m benchmarks.segmenters [--segmenters upernet-swin,pspnet] [--side 512]   (half an hour)

A forward pass is of one image, a step (forward and backward) of two, both of the published crop, with drawn weights. The plain
form is the same layers as torch computes them; ours has folded batch norms in the forward pass, 1x1 convolutions by oneDNN, and
channels last. Seconds are CPU seconds; memory is the peak of a process that does nothing else, in ours. Differences are relative:
of the logits, and of the loss (the gradient of a batch norm over the one cell of two images has no digits to compare).
"""

import argparse
import copy
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from backbones.extraction import for_extraction
from backbones.layout import move
from backbones.quickening import quicken
from benchmarks.published.rounds import Stage, length, measure, timed
from orchestrator.engine.context import settings_of
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.references import resolve
from segmentation import deeplab_v2
from segmentation.learning import MaskObjective
from training.stage import Settings

CPU, CLASSES, BATCH = torch.device("cpu"), 20, 2
SEGMENTERS = ("deeplabv2-resnet101", "deeplabv3plus-resnet101", "deeplabv3plus-resnet50", "pspnet", "resnet38d", "upernet-swin")
COLUMNS = ("segmenter", "crop", "parameters, M", "forward, s", "plain", "apart", "MB", "step, s", "plain", "apart", "MB")
PARTS = ("forward", "step")
Work = Callable[[], list[torch.Tensor]]


def network(name: str) -> tuple[nn.Module, Settings]:
    """A segmenter with drawn weights, and its settings. Nothing is left to chance in training."""
    wanted = experiment(Request("supervised", "folder:x", name))
    stage = next(stage for stage in wanted.stages if stage.recipe.writes == "segmenter")
    settings = settings_of({**stage.settings, **({"drop_path": 0.0} if "drop_path" in stage.settings else {})})
    torch.manual_seed(0)
    built = resolve(stage.recipe.network)(settings, [str(number) for number in range(CLASSES)])
    for module in built.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return built, settings


def forward(segmenter: nn.Module, images: torch.Tensor) -> Work:
    """A forward pass of one image."""
    return torch.inference_mode()(lambda: [segmenter(images[:1])])


def step(segmenter: nn.Module, images: torch.Tensor, label: torch.Tensor) -> Work:
    """The losses of a batch, and their gradient, which is left in the network."""
    msc = isinstance(segmenter, deeplab_v2.DeepLabV2)
    objective = deeplab_v2.PseudoMaskObjective(segmenter, deeplab_v2.MSC_SCALES) if msc else MaskObjective(segmenter)  # type: ignore[arg-type]

    def work() -> list[torch.Tensor]:
        segmenter.train().zero_grad()
        losses, _ = objective({"image": images, "label": label}, 0)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        return [total.detach()]

    return work


def works(name: str, side: int, part: str) -> tuple[dict[str, Work], dict[str, float]]:
    """Both forms of a part of a segmenter's work, and what is told of the segmenter."""
    plain, settings = network(name)
    side = side or settings.crop
    images, label = torch.randn(BATCH, 3, side, side), torch.randint(0, CLASSES + 1, (BATCH, side, side), dtype=torch.uint8)
    told = {"crop": side, "parameters": sum(value.numel() for value in plain.parameters()) / 1e6}
    own = copy.deepcopy(plain)
    if part == "forward":
        forms = {
            "published": forward(plain.eval(), images),
            "float32": forward(for_extraction(own.eval(), "float32", CPU), images),
        }
        return forms, told
    quicken(own)
    return {"published": step(plain, images, label), "float32": step(move(own, CPU), images, label)}, told


def child(name: str, side: int, part: str, memory: bool) -> None:
    """Print what one process measures, as JSON."""
    torch.set_num_threads(1)
    forms, told = works(name, side, part)
    if memory:
        forms["float32"]()
        print(json.dumps({"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}))
        return
    row = measure(Stage(1, {form: timed(work) for form, work in forms.items()}, apart=length), rounds=1)
    print(json.dumps({**told, **row.seconds, "apart": row.differences["float32"]}))


def measured(name: str, side: int, part: str) -> dict[str, float]:
    """Times and memory of a part, by two processes."""
    found: dict[str, float] = {}
    for memory in ((), ("--memory",)):
        words = [sys.executable, "-m", "benchmarks.segmenters", f"--child={name},{side},{part}", *memory]
        found |= json.loads(subprocess.run(words, check=True, capture_output=True, encoding="utf-8").stdout)
    return found


def main() -> None:
    """Measure the segmenters one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--segmenters", type=lambda text: text.split(","), default=list(SEGMENTERS), help="names, with commas between"
    )
    parser.add_argument("--side", type=int, default=0, help="side of the images; 0: the published crop")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, side, part = options.child.split(",")
        child(name, int(side), part, options.memory)
        return
    started = time.monotonic()
    print(f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", sep="\n")
    for name in options.segmenters:
        print(line(name, [measured(name, options.side, part) for part in PARTS]), flush=True)
    print(f"measured in {time.monotonic() - started:.0f} s", file=sys.stderr)


def line(name: str, parts: Sequence[dict[str, float]]) -> str:
    """A line of a Markdown table."""
    cells = [name, f"{parts[0]['crop']:.0f}", f"{parts[0]['parameters']:.1f}"]
    for part in parts:
        cells += [f"{part['float32']:.2f}", f"{part['published']:.2f}", f"{part['apart']:.0e}", f"{part['memory']:.0f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
