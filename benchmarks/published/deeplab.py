"""DeepLabV2 on ResNet-101: a step, and the network's part of inference."""

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional

from benchmarks.published.bench import CLASSES, Bench
from benchmarks.published.networks import DeepLabV2
from benchmarks.published.pairs import pair, plain, read
from benchmarks.published.rounds import PRECISIONS, PUBLISHED, Form, Stage, timed
from benchmarks.published.steps import Batch, step_stage, trained
from imagesets.item import VOID
from segmentation.losses import shrunk
from training.stage import Training

SMALLER = (0.5, 0.75)


def at_three_scales(network: DeepLabV2, images: torch.Tensor) -> list[torch.Tensor]:
    """The logits at scales 1, 0.5 and 0.75, and their maximum on the first grid."""
    logits = [network(images)]
    for scale in SMALLER:
        logits.append(network(functional.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)))
    size = logits[0].shape[-2:]
    enlarged = [functional.interpolate(each, size, mode="bilinear", align_corners=False) for each in logits[1:]]
    return [*logits, torch.stack([logits[0], *enlarged]).max(dim=0).values]


def step(bench: Bench) -> Stage:
    """An update; the public code adds up the gradients of two half batches. Batch norms are constants."""

    def prepared(ours: Training) -> tuple:
        network = DeepLabV2(len(CLASSES) + 1)
        network.load_state_dict(ours.network.state_dict())
        network.eval()
        for name, parameter in network.backbone.named_parameters():
            parameter.requires_grad_("bn" not in name and "downsample.1" not in name)
        optimiser = torch.optim.SGD(trained(network), lr=0.0, momentum=0.9, weight_decay=5e-4)

        def losses(batch: Batch) -> Iterator[torch.Tensor]:
            for images, label in zip(batch["image"].chunk(2), batch["label"].chunk(2), strict=True):
                yield _loss(network, images, label) / 2

        return network, optimiser, losses

    labels = {item.id: {"label": bench.label()} for item in bench.items(64)}
    return step_stage(bench, "deeplabv2-segmenter", prepared, masks=labels)


def _loss(network: DeepLabV2, images: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    logits = at_three_scales(network, images)
    losses = [functional.cross_entropy(each, shrunk(label, each.shape[-2:]).long(), ignore_index=VOID) for each in logits]
    return torch.stack(losses).sum()


def inference(bench: Bench) -> Stage:
    """The label map of an image without the CRF."""
    item, _ = bench.example()
    network = plain(DeepLabV2(len(CLASSES) + 1), bench.state("deeplabv2-segmenter"))

    def published() -> Sequence[torch.Tensor]:
        rgb = read(item.image)
        logits = at_three_scales(network, pair(rgb)[:1])[-1]
        probabilities = functional.interpolate(logits, rgb.shape[:2], mode="bilinear", align_corners=False).softmax(dim=1)
        return [probabilities[0].argmax(dim=0).byte()]

    def ours(precision: str) -> Form:
        one = bench.per_image("deeplabv2-predictions", precision)
        return timed(lambda: [one(item)["label"]])

    forms = {precision: ours(precision) for precision in PRECISIONS}
    return Stage(1, {PUBLISHED: timed(torch.no_grad()(published)), **forms})
