"""IRN's network in its plain published form; its parameters have the names of ours."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.published.networks import resnet50


class IRNet(nn.Module):
    """Boundary logits and displacements from the five taps of a backbone that does not train."""

    fc_edge1: Any
    fc_edge2: Any
    fc_edge3: Any
    fc_edge4: Any
    fc_edge5: Any
    fc_dp1: Any
    fc_dp2: Any
    fc_dp3: Any
    fc_dp4: Any
    fc_dp5: Any

    def __init__(self) -> None:
        super().__init__()
        self.backbone = resnet50()
        for number, channels in enumerate((64, 256, 512, 1024, 2048), start=1):
            setattr(self, f"fc_edge{number}", _projection(channels, 32, groups=4))
        self.fc_edge6 = nn.Conv2d(160, 1, 1)
        widths = ((64, 64, 8), (256, 128, 16), (512, 256, 16), (1024, 256, 16), (2048, 256, 16))
        for number, (channels, width, groups) in enumerate(widths, start=1):
            setattr(self, f"fc_dp{number}", _projection(channels, width, groups))
        self.fc_dp6 = _projection(768, 256, groups=16)
        self.fc_dp7 = nn.Sequential(*_projection(448, 256, groups=16), nn.ReLU(), nn.Conv2d(256, 2, 1, bias=False))
        self.register_buffer("displacement_mean", torch.zeros(2))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x1, x2, x3, x4, x5 = (tap.detach() for tap in self.backbone(images))
        fine, coarse = x2.shape[-2:], x3.shape[-2:]
        planes = (
            self.fc_edge1(x1),
            self.fc_edge2(x2),
            _up(self.fc_edge3(x3), 2),
            _up(self.fc_edge4(x4), 4),
            _up(self.fc_edge5(x5), 4),
        )
        edges = [_cut(plane.relu(), fine) for plane in planes]
        deep = [self.fc_dp3(x3), _up(self.fc_dp4(x4), 2), _up(self.fc_dp5(x5), 2)]
        middle = self.fc_dp6(torch.cat([_cut(plane.relu(), coarse) for plane in deep], dim=1))
        joined = torch.cat([self.fc_dp1(x1).relu(), self.fc_dp2(x2).relu(), _cut(_up(middle, 2).relu(), fine)], dim=1)
        return self.fc_edge6(torch.cat(edges, dim=1)), self.fc_dp7(joined)


def _projection(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.GroupNorm(groups, outputs))


def _up(plane: torch.Tensor, factor: int) -> torch.Tensor:
    return functional.interpolate(plane, scale_factor=factor, mode="bilinear", align_corners=False)


def _cut(plane: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return plane[..., : size[0], : size[1]]
