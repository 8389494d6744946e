"""CAM: the published make_cam, and a step of the classifier."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from benchmarks.published.bench import CLASSES, Bench
from benchmarks.published.networks import Classifier
from benchmarks.published.pairs import SCALES, maps_stage, pair, plain, read, summed
from benchmarks.published.rounds import Stage
from benchmarks.published.steps import Batch, step_stage, trained
from training.stage import Training


def maps(bench: Bench) -> Stage:
    """The maps of an image: four scales, image and mirror."""
    item, _ = bench.example()
    network = plain(Classifier(len(CLASSES)), bench.state("cam-network"))

    def published() -> Sequence[torch.Tensor]:
        rgb, grids = read(item.image), []
        for scale in SCALES:
            features = network.backbone(pair(rgb, scale))[-1]
            image, mirror = functional.conv2d(features, network.classifier.weight).relu()
            grids.append(image + mirror.flip(-1))
        return summed(grids, rgb.shape[:2], item.labels)

    return maps_stage(bench, "cam-maps", published)


def step(bench: Bench) -> Stage:
    """An update of the classifier; its stem is frozen."""

    def prepared(ours: Training) -> tuple:
        network = Classifier(len(CLASSES))
        network.load_state_dict(ours.network.state_dict())
        network.eval()  # batch norms keep their statistics
        for part in (network.backbone.conv1, network.backbone.bn1):
            part.requires_grad_(False)
        optimiser = torch.optim.SGD(trained(network), lr=0.0, momentum=1e-4, weight_decay=1e-4)

        def losses(batch: Batch) -> list[torch.Tensor]:
            return [functional.multilabel_soft_margin_loss(network(batch["image"]), batch["labels"])]

        return network, optimiser, losses

    return step_stage(bench, "cam-network", prepared)
