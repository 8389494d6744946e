"""AMN: its maps, and a step."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from benchmarks.published.bench import CLASSES, Bench
from benchmarks.published.networks import AMN
from benchmarks.published.pairs import SCALES, enlarged, maps_stage, pair, plain, read
from benchmarks.published.rounds import Stage
from benchmarks.published.steps import Batch, step_stage, trained
from imagesets.item import VOID
from maps.grids import strided
from segmentation.losses import shrunk
from training.stage import Training

SMOOTHING = 0.4


def maps(bench: Bench) -> Stage:
    """The maps of an image: the softmax of the mean logits, stretched where the labels are not background."""
    item, _ = bench.example()
    network = plain(AMN(len(CLASSES)), bench.state("amn-network"))
    label = torch.from_numpy(bench.label())

    def stretched(logits: torch.Tensor) -> torch.Tensor:
        probabilities = logits.softmax(dim=0)[[key + 1 for key in item.labels]]
        low, high = probabilities.amin(dim=(1, 2), keepdim=True), probabilities.amax(dim=(1, 2), keepdim=True)
        size = probabilities.shape[1:]
        return torch.where(shrunk(label[None], size)[0] != 0, (probabilities - low) / (high - low + 1e-5), probabilities)

    def published() -> Sequence[torch.Tensor]:
        rgb, grids = read(item.image), []
        multi_hot = torch.from_numpy(item.multi_hot(len(CLASSES))).expand(2, -1)
        for scale in SCALES:
            image, mirror = network(pair(rgb, scale), multi_hot)
            grids.append((image + mirror.flip(-1)) / 2)
        sizes = strided(rgb.shape[:2]), rgb.shape[:2]
        return [stretched(torch.stack([enlarged(grid, size) for grid in grids]).mean(0)) for size in sizes]

    return maps_stage(bench, "amn-maps", published, labels={item.id: {"label": bench.label()}})


def step(bench: Bench) -> Stage:
    """An update of AMN; its stem is frozen."""

    def prepared(ours: Training) -> tuple:
        network = AMN(len(CLASSES))
        network.load_state_dict(ours.network.state_dict())
        network.eval()
        for part in (network.backbone.conv1, network.backbone.bn1):
            part.requires_grad_(False)
        optimiser = torch.optim.Adam(trained(network), lr=0.0, weight_decay=1e-4)

        def losses(batch: Batch) -> list[torch.Tensor]:
            logits = network(batch["image"], batch["labels"])
            return [_loss(logits, shrunk(batch["label"], logits.shape[-2:]).long())]

        return network, optimiser, losses

    labels = {item.id: {"label": bench.label()} for item in bench.items(64)}
    return step_stage(bench, "amn-network", prepared, labels=labels)


def _loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Half the mean loss over background and half that over foreground, against smoothed targets."""
    labels = logits.shape[1]
    own = functional.one_hot(torch.where(label == VOID, 0, label), labels).permute(0, 3, 1, 2)
    target = own * (1 - SMOOTHING) + (1 - own) * SMOOTHING / (labels - 1)
    loss = -(target * logits.log_softmax(dim=1)).sum(dim=1)
    foreground = (label > 0) & (label < labels)
    return (loss[label == 0].mean() + loss[foreground].mean()) / 2
