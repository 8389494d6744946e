"""A segmenter as one module from an image to its label map, whose computation can be recorded for images of any size.

TorchScript and ONNX record the operations on an example. What looks at sizes in Python would be recorded for the example's size,
so the parts that do so are replaced here by operations on tensors; they compute the same within rounding.
"""

from typing import TypeGuard, cast

import torch
from torch import nn

from backbones.precision import MixedPrecision
from imagesets.transforms import MEAN, STANDARD_DEVIATION
from segmentation.aspp import ASPP
from segmentation.class_scores import Compute
from segmentation.fusion import RULES, View
from segmentation.inference import Fused
from segmentation.multi_scale import Resizing


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
        scores = _fused(self.compute, planes) if _looks_at_sizes(self.compute) else self.compute(planes, planes.shape[-2:])
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


def _looks_at_sizes(compute: Compute) -> TypeGuard[Fused]:
    """Whether Python computes the sizes of the views."""
    if not isinstance(compute, Fused):
        return False
    how = RULES[compute.fusion].resizing
    return all(compute.fit) or how.rounding != "down" or not how.by_factor


def _fused(compute: Fused, images: torch.Tensor) -> torch.Tensor:
    """As `Fused`, where the sizes of the views are computed from that of the images [1,3,H,W] by operations on tensors."""
    rule, views = RULES[compute.fusion], list[View]()
    height, width = (_number(images, axis) for axis in (-2, -1))
    # float64 as Python's numbers, because a size is a rounded product; ONNX would make float32 of plain numbers
    longest, shortest, *scales = torch.tensor([*compute.fit, *compute.scales], dtype=torch.float64).unbind()
    fitting = torch.minimum(longest / torch.maximum(height, width), shortest / torch.minimum(height, width))
    factor = fitting if all(compute.fit) else torch.ones_like(height)
    for scale in scales:
        scaled = _scaled(images, scale * factor, rule.resizing)
        views.append(View(compute.segment(scaled), scaled.shape[-2:]))
        if compute.mirror:
            mirrored = _scaled(images.flip(-1), scale * factor, rule.resizing)
            views.append(View(compute.segment(mirrored).flip(-1), scaled.shape[-2:]))
    return rule.fuse(views, images.shape[-2:])


def _scaled(images: torch.Tensor, factor: torch.Tensor, how: Resizing) -> torch.Tensor:
    """Images [1,3,H,W] resized by a factor, as `Resizing` does it with a number."""
    rows, columns = (_shares(images, axis, factor, how) for axis in (-2, -1))
    return rows @ images @ columns.T


def _shares(images: torch.Tensor, axis: int, factor: torch.Tensor, how: Resizing) -> torch.Tensor:
    """The share [resized,n] of each of the n pixels along an axis in each resized pixel; rounded as torch rounds it."""
    length = _number(images, axis)
    one = torch.ones_like(images[0, 0, 0, 0])
    place, position = _places(length, factor, how, one), _counted(length, one)
    first = place.floor()
    shares = torch.zeros_like(first[:, None] * position)
    start, weigh = (-1, _cubic) if how.mode == "bicubic" else (0, _linear)
    for offset, share in enumerate(weigh(place - first), start):
        pixel = (first + offset).clamp(min=0).minimum((length - 1).float())
        shares = shares + share[:, None] * (position == pixel[:, None])
    return shares


def _places(length: torch.Tensor, factor: torch.Tensor, how: Resizing, one: torch.Tensor) -> torch.Tensor:
    """Where each pixel of a line of `length` pixels, resized by `factor`, lies in that line: [resized] of the kind of `one`."""
    exact = length * factor
    resized = exact.round() if how.rounding == "half even" else (exact + 0.5 * (how.rounding == "half up")).floor()
    resized = resized.clamp(min=1)
    index = _counted(resized, one)
    if how.align_corners:
        return index * ((length - 1) / (resized - 1).clamp(min=1)).float()
    place = (index + 0.5) * (1 / factor if how.by_factor else length / resized).float() - 0.5
    return place.clamp(min=0) if how.mode == "bilinear" else place


def _counted(count: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    """0, 1, ... below `count`, of the kind of `one`."""
    return one.expand(cast(int, count.long())).cumsum(0) - 1


def _linear(after: torch.Tensor) -> list[torch.Tensor]:
    """The shares of the pixel before and the pixel behind a place that is `after` pixels behind the first."""
    return [1 - after, after]


def _cubic(after: torch.Tensor) -> list[torch.Tensor]:
    """The shares of the two pixels before and the two behind, by Keys' kernel with torch's -0.75."""
    a = -0.75

    def near(distance: torch.Tensor) -> torch.Tensor:
        return ((a + 2) * distance - (a + 3)) * distance * distance + 1

    def far(distance: torch.Tensor) -> torch.Tensor:
        return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a

    return [far(after + 1), near(after), near(1 - after), far(2 - after)]


def _number(images: torch.Tensor, axis: int) -> torch.Tensor:
    """The size of an axis, float64 []; it is counted, because a size that Python reads is recorded as a number."""
    line = images[0, 0, :, 0] if axis == -2 else images[0, 0, 0, :]
    return torch.ones_like(line, dtype=torch.float64).sum()


class OneSize(nn.Module):
    """A recorded module for images of one size; it refuses others, for which its recording does not hold."""

    def __init__(self, recorded: nn.Module, height: int, width: int) -> None:
        super().__init__()
        self.recorded, self.height, self.width = recorded, height, width

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As the recorded module."""
        if image.shape[0] != self.height or image.shape[1] != self.width:
            raise ValueError("this file was exported for images of another size")
        return self.recorded(image)  # type: ignore[no-any-return]
