"""AffinityNet: a step of its network."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.affinitynet import gathered
from benchmarks.published.bench import Bench
from benchmarks.published.networks import resnet50
from benchmarks.published.rounds import Stage
from benchmarks.published.steps import Batch, step_stage, trained
from training.stage import Training


class Head(nn.Module):
    """A 1x1 convolution of each tap, and one of all together."""

    def __init__(self) -> None:
        super().__init__()
        self.f8_3 = nn.Conv2d(512, 64, 1, bias=False)
        self.f8_4 = nn.Conv2d(1024, 128, 1, bias=False)
        self.f8_5 = nn.Conv2d(2048, 256, 1, bias=False)
        self.f9 = nn.Conv2d(448, 448, 1, bias=False)

    def forward(self, x3: torch.Tensor, x4: torch.Tensor, x5: torch.Tensor) -> torch.Tensor:
        projected = [functional.elu(self.f8_3(x3)), functional.elu(self.f8_4(x4)), functional.elu(self.f8_5(x5))]
        return functional.elu(self.f9(torch.cat(projected, dim=1)))


class AffinityNet(nn.Module):
    """The network on a ResNet-50, whose last two taps are enlarged to stride 8 (on ResNet-38 all taps have it)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = resnet50(), Head()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x3, *deep = self.backbone(images)[2:]
        larger = [functional.interpolate(tap, scale_factor=2, mode="bilinear")[..., : x3.shape[2], : x3.shape[3]] for tap in deep]
        return self.head(x3, *larger)


def step(bench: Bench) -> Stage:
    """An update; the pairs of cells are gathered by index."""

    def prepared(ours: Training) -> tuple:
        network = AffinityNet()
        network.load_state_dict(ours.network.state_dict())
        network.eval()  # batch norms keep their statistics
        for part in (network.backbone.conv1, network.backbone.bn1, network.backbone.layer1):
            part.requires_grad_(False)
        optimiser = torch.optim.SGD(trained(network), lr=0.0, momentum=5e-4, weight_decay=5e-4)

        def losses(batch: Batch) -> list[torch.Tensor]:
            return [gathered(network(batch["image"]), batch["label"])]

        return network, optimiser, losses

    label, keys = bench.label(), np.array(bench.example()[0].labels)
    certain = np.stack([label == value for value in (0, *(keys + 1))]).astype(np.uint8) * 255
    record = {"keys": keys, "scores": np.stack([certain, certain])}
    return step_stage(bench, "affinitynet-network", prepared, scores={item.id: record for item in bench.items(64)})
