"""A segmenter as one module from an image to its label map, whose computation can be recorded for images of any size.

TorchScript and ONNX record the operations on an example. What looks at sizes in Python would be recorded for the example's size,
so the parts that do so are replaced here by operations on tensors; they compute the same within rounding.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from backbones.precision import MixedPrecision
from imagesets.transforms import MEAN, STANDARD_DEVIATION
from segmentation.aspp import ASPP
from segmentation.class_scores import Compute, Fused
from segmentation.fusion import RULES, Rule, View


class Exported(nn.Module):
    """An image uint8 [H,W,3], RGB, to its label map uint8 [H,W] and class scores float32 [L,H,W].

    `compute` makes the scores with `network`, whose parts are replaced. The dense CRF is no part of it.
    """

    factor: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: nn.Module, compute: Compute) -> None:
        super().__init__()
        self.network, self.compute = recordable(network), compute
        mean, deviation = torch.tensor(MEAN), torch.tensor(STANDARD_DEVIATION)
        self.register_buffer("factor", (1 / (255 * deviation))[:, None, None])
        self.register_buffer("shift", (mean / deviation)[:, None, None])

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One image; several sizes need no other module."""
        planes = (image.permute(2, 0, 1).float() * self.factor - self.shift)[None]
        fitted = isinstance(self.compute, Fused) and all(self.compute.fit)
        scores = _fitted(cast(Fused, self.compute), planes) if fitted else self.compute(planes, planes.shape[-2:])
        return scores[0].max(0).indices.to(torch.uint8), scores[0]


def recordable(network: nn.Module) -> nn.Module:
    """The network, in which every part that looks at sizes in Python is replaced."""
    for name, module in network.named_children():
        if isinstance(module, ASPP):
            setattr(network, name, Branches(module))
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size != 1:
            setattr(network, name, Cells(cast(int, module.output_size)))
        else:
            recordable(module)
    return network


class Branches(MixedPrecision):
    """DeepLabV2's ASPP as the sum of its convolutions."""

    def __init__(self, aspp: ASPP) -> None:
        super().__init__()
        self.branches, self.precision = nn.ModuleList(aspp.branches()), aspp.precision

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [B,C,h,w] to [B,outputs,h,w]."""
        return torch.stack([branch(features) for branch in self.branches]).sum(0)


class Cells(nn.Module):
    """The means over a grid of `cells` x `cells` areas, as `nn.AdaptiveAvgPool2d`."""

    index: torch.Tensor

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.register_buffer("index", torch.arange(cells, dtype=torch.float32)[:, None])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B,C,h,w] to [B,C,cells,cells]."""
        return self._means(features[0, 0, :, 0]) @ features @ self._means(features[0, 0, 0, :]).T

    def _means(self, line: torch.Tensor) -> torch.Tensor:
        """The share [cells,n] of each position of a line [n] in the mean of each cell."""
        ones = torch.ones_like(line)  # not len(line), which is recorded as the number that it is
        position, length = ones.cumsum(0) - 1, ones.sum()
        first = (self.index * length / self.cells).floor()
        after = ((self.index + 1) * length / self.cells).ceil()
        inside = ((position >= first) & (position < after)).float()
        return inside / inside.sum(1, keepdim=True)


def _fitted(compute: Fused, images: torch.Tensor) -> torch.Tensor:
    """As `Fused`, where the factor on the size of the images [1,3,H,W] is computed from it."""
    rule, views = RULES[compute.fusion], list[View]()
    height, width = (_number(images, axis) for axis in (-2, -1))
    longest, shortest = (float(side) for side in compute.fit)
    factor = torch.minimum(longest / torch.maximum(height, width), shortest / torch.minimum(height, width))
    for scale in compute.scales:
        scaled = _scaled(images, scale * factor, rule)
        views.append(View(compute.segment(scaled), scaled.shape[-2:]))
        if compute.mirror:
            views.append(View(compute.segment(scaled.flip(-1)).flip(-1), scaled.shape[-2:]))
    return rule.fuse(views, images.shape[-2:])


def _scaled(images: torch.Tensor, factor: torch.Tensor, rule: Rule) -> torch.Tensor:
    """Images [1,3,H,W] resized by a factor, as `functional.interpolate` does it with a number."""
    columns, rows = (_places(images, axis, factor, rule.align_corners) for axis in (-1, -2))
    grid = torch.stack(torch.broadcast_tensors(columns, rows[:, None]), dim=-1)
    return functional.grid_sample(images, grid[None], rule.mode, padding_mode="border", align_corners=rule.align_corners)


def _places(images: torch.Tensor, axis: int, factor: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """Where each resized pixel lies along an axis of the images, from -1 to 1 as `grid_sample` wants it."""
    length = _number(images, axis)
    count = (length * factor).floor()
    index = torch.ones_like(images[0, 0, 0, 0], dtype=torch.float64).expand(cast(int, count.long())).cumsum(0) - 1
    if align_corners:
        return (2 * index / (count - 1).clamp(min=1) - 1).float()
    return ((2 * index + 1) / factor / length - 1).float()


def _number(images: torch.Tensor, axis: int) -> torch.Tensor:
    """The size of an axis, float64 []; it is counted, because a size that Python reads is recorded as a number."""
    line = images[0, 0, :, 0] if axis == -2 else images[0, 0, 0, :]
    return torch.ones_like(line, dtype=torch.float64).sum()
