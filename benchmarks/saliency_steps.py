"""A training step of EDAM and of EPS beside plain forms of the published ones: CPU time, equal results.

Run from the repository root: python -m benchmarks.saliency_steps   (two minutes, one thread)

Both forms have the same network with the same weights. The published forms, re-implementations from the descriptions of the
public code, go pair by pair and class by class with all attention weights in memory (EDAM), and image by image (EPS). Results are
compared without dropout; EDAM's time is told with dropout too.
"""

import argparse
from collections.abc import Callable
from functools import partial
from math import sqrt
from statistics import median

import torch
from torch import nn
from torch.nn import functional

import backbones
from benchmarks.clock import median_time
from benchmarks.two_forms import CLASSES, Batch, apart, parser, stepped, summed
from methods.class_attention import ClassAttention, position_codes
from methods.edam import EDAM, CommonClassObjective, partners
from methods.eps import EPS, SaliencyObjective
from orchestrator.planning.recipes import entries
from orchestrator.planning.references import resolve


def edam(network: EDAM, batch: Batch) -> torch.Tensor:
    """The loss of all pairs, one after the other."""
    features = network.features(batch["image"])
    losses = []
    for pair in partners(batch["labels"]):
        masks = functional.normalize(network.mask_branch(features[pair])).abs()
        embedded = network.embedding(features[pair])
        height, width = embedded.shape[2:]
        codes = position_codes(height * width, embedded.shape[1], embedded)
        logits = []
        for index in range(CLASSES):
            tokens = (embedded * masks[:, index, None]).flatten(2).transpose(1, 2) + codes + network.segments[:, None]
            tokens = functional.dropout(tokens, network.attention.dropout)
            found = block(network.attention, index, tokens.reshape(1, -1, tokens.shape[2]))
            pooled = found.view(2, height, width, -1).permute(0, 3, 1, 2).mean(dim=(2, 3))
            logits.append(pooled @ network.classifier[index])
        losses.append(functional.binary_cross_entropy_with_logits(torch.stack(logits, dim=1), batch["labels"][pair]))
    return torch.stack(losses).mean()


def block(own: ClassAttention, index: int, tokens: torch.Tensor) -> torch.Tensor:
    """The block of one class for tokens [1,T,D]."""

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return functional.linear(values, own.weights[name][index], own.biases[name][index])

    def norm(part: str, values: torch.Tensor) -> torch.Tensor:
        unit = (values - values.mean(-1, keepdim=True)) / (values.std(-1, keepdim=True) + 1e-6)
        return own.scales[part][index] * unit + own.shifts[part][index]

    def dropped(values: torch.Tensor) -> torch.Tensor:
        return functional.dropout(values, own.dropout)

    normed = norm("attention", tokens)
    parts = zip(own.weights["projected"][index].chunk(3), own.biases["projected"][index].chunk(3), strict=True)
    heads = [functional.linear(normed, *part).view(1, tokens.shape[1], own.heads, -1).transpose(1, 2) for part in parts]
    weights = (heads[0] @ heads[1].transpose(2, 3) / sqrt(heads[0].shape[3])).softmax(dim=-1)
    attended = (dropped(weights) @ heads[2]).transpose(1, 2).reshape(tokens.shape)
    tokens = tokens + dropped(linear("joined", attended))
    inner = functional.gelu(linear("inner", norm("layers", tokens)), approximate="tanh")
    return dropped(tokens + dropped(linear("outer", dropped(inner))))


def eps(network: EPS, batch: Batch) -> torch.Tensor:
    """The sum of the losses of EPS."""
    scores = network.classifier(network.backbone(batch["image"])[-1])
    labels = batch["labels"]
    saliency = functional.interpolate(batch["saliency"][:, None].float() / 255, size=scores.shape[2:])
    probabilities = scores.softmax(dim=1)
    foreground, background = torch.zeros_like(saliency), torch.zeros_like(saliency)
    for place in range(len(scores)):
        background[place] += probabilities[place, -1:]
        for index in range(CLASSES):
            area, salient = probabilities[place, index].round(), saliency[place, 0].round()
            overlap = (area * salient).sum() / (area + 1e-4).sum()
            if labels[place, index] == 1:
                side = foreground if overlap > 0.4 else background
                side[place] += probabilities[place, index]
    predicted = 0.5 * foreground + 0.5 * (1 - background)
    logits = functional.avg_pool2d(scores, kernel_size=scores.shape[2:])[:, :-1, 0, 0]
    return functional.multilabel_soft_margin_loss(logits, labels) + functional.mse_loss(predicted, saliency)


def built(name: str, options: argparse.Namespace, dropout: float) -> tuple[nn.Module, nn.Module, Callable]:
    """The network, its objective, and the published form of its losses."""
    torch.manual_seed(0)
    architecture = resolve(entries("backbone")[options.backbone])
    backbone = backbones.build(architecture, stride=options.stride, dilated=True, frozen_statistics=True)
    if name == "edam":
        pairs = EDAM(backbone, CLASSES, dropout=dropout).train()
        return pairs, CommonClassObjective(pairs), edam
    salient = EPS(backbone, CLASSES).train()
    return salient, SaliencyObjective(salient, 0.4, 0.5), eps


def line(name: str, options: argparse.Namespace, dropout: float = 0.0) -> str:
    """A line on a step of a method; fails where results differ."""
    network, objective, published = built(name, options, dropout)
    labels = torch.zeros(options.batch, CLASSES)
    labels[:, 3] = labels[0, 8] = 1
    saliency = torch.zeros(options.batch, options.crop, options.crop, dtype=torch.uint8)
    saliency[:, options.crop // 4 : options.crop // 2] = 250
    images = torch.randn(options.batch, 3, options.crop, options.crop)
    batch = {"image": images, "labels": labels, "saliency": saliency}
    totals = {"published": lambda: published(network, batch), "ours": lambda: summed(objective(batch, 0)[0])}
    forms = {form: partial(stepped, network, total) for form, total in totals.items()}
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    found = {form: step() for form, step in forms.items()}  # the first steps are no measure
    for _ in range(options.rounds):  # in turn, because other programs may be running
        for form, step in forms.items():
            found[form], taken = median_time(step, 1)
            seconds[form].append(taken)
    told = f"with dropout {dropout}" if dropout else f"gradients {apart(found['ours'], found['published']):.0e} apart"
    theirs, ours = (median(seconds[form]) for form in forms)
    ratio = median(one / other for one, other in zip(seconds["published"], seconds["ours"], strict=True))
    return (
        f"a step of {name} on {options.backbone}, B={options.batch}, K={CLASSES}, {options.crop} px, one thread: published "
        f"{theirs:.3g} s -> ours {ours:.3g} s ({ratio:.2f}x), {told}"
    )


def main() -> None:
    """Print three lines."""
    torch.set_num_threads(1)
    asked = parser(__doc__, "mobilenetv2", crop=224, batch=4, rounds=7)
    asked.add_argument("--stride", type=int, default=16)
    options = asked.parse_args()
    for name, dropout in (("edam", 0.0), ("edam", 0.1), ("eps", 0.0)):
        print(line(name, options, dropout), flush=True)


if __name__ == "__main__":
    main()
