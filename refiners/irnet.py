"""IRNet (Ahn, Cho & Kwak, CVPR 2019): class boundaries and displacements to object centres from a frozen backbone's taps.

Layer names and group sizes are those of the public code, so the heads of its checkpoints fit. The upsampling factors follow
from the taps, so any backbone with five taps, the first two on one grid, and any stride will do.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from backbones import Backbone
from backbones.precision import MixedPrecision
from imagesets.views import sum_of_pairs
from maps.grids import resize, strided

BOUNDARY_WIDTH = 32  # channels per tap of the boundary branch
DISPLACEMENT_WIDTHS = (64, 128, 256, 256, 256)  # channels per tap of the displacement branch


class Layers(MixedPrecision, nn.Sequential):
    """Layers of a head, which take more time in training than the frozen backbone."""


class IRNet(nn.Module):
    """Boundary logits [B,1,h,w] and displacements [B,2,h,w] (rows, columns; in cells) on the stride-4 grid of images [B,3,H,W].

    The whole backbone is frozen. In evaluation mode the mean displacement, which is set after training, is subtracted.
    """

    displacement_mean: torch.Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        for number, channels in enumerate(backbone.channels, start=1):
            setattr(self, f"fc_edge{number}", _projection(channels, BOUNDARY_WIDTH, groups=4))
        self.fc_edge6 = nn.Conv2d(5 * BOUNDARY_WIDTH, 1, 1)
        for number, (channels, width) in enumerate(zip(backbone.channels, DISPLACEMENT_WIDTHS, strict=True), start=1):
            setattr(self, f"fc_dp{number}", _projection(channels, width, groups=8 if number == 1 else 16))
        self.fc_dp6 = _projection(sum(DISPLACEMENT_WIDTHS[2:]), 256, groups=16)
        joined = sum(DISPLACEMENT_WIDTHS[:2]) + 256
        self.fc_dp7 = Layers(*_projection(joined, 256, groups=16), nn.ReLU(), nn.Conv2d(256, 2, 1, bias=False))
        self.register_buffer("displacement_mean", torch.zeros(2))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        taps = self._taps(images)
        displacements = self._displacements(taps)
        if not self.training:
            displacements = displacements - self.displacement_mean[:, None, None]
        return self._boundaries(taps), displacements

    def boundaries(self, images: torch.Tensor) -> torch.Tensor:
        """The boundary logits alone; the walk needs no displacements."""
        return self._boundaries(self._taps(images))

    def boundary_parameters(self) -> list[nn.Parameter]:
        """The parameters with the boundary branch's rate."""
        return self._parameters_of("fc_edge")

    def displacement_parameters(self) -> list[nn.Parameter]:
        """The parameters with the displacement branch's rate."""
        return self._parameters_of("fc_dp")

    def _parameters_of(self, prefix: str) -> list[nn.Parameter]:
        return [parameter for name, parameter in self.named_parameters() if name.startswith(prefix)]

    @torch.no_grad()
    def _taps(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.backbone(images)

    def _boundaries(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        size = taps[1].shape[-2:]
        projected = [upsample(getattr(self, f"fc_edge{number}")(tap), size) for number, tap in enumerate(taps, start=1)]
        return self.fc_edge6(functional.relu(torch.cat(projected, dim=1)))

    def _displacements(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        fine, coarse = taps[1].shape[-2:], taps[2].shape[-2:]
        projected = [getattr(self, f"fc_dp{number}")(tap) for number, tap in enumerate(taps, start=1)]
        deep = functional.relu(torch.cat([upsample(tap, coarse) for tap in projected[2:]], dim=1))
        deep = upsample(self.fc_dp6(deep), fine)
        return self.fc_dp7(functional.relu(torch.cat([*projected[:2], deep], dim=1)))


def _projection(inputs: int, outputs: int, groups: int) -> Layers:
    return Layers(nn.Conv2d(inputs, outputs, 1, bias=False), nn.GroupNorm(groups, outputs))


def upsample(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear upsampling of [B,C,h,w] by the least of 1, 2, 4, ... that reaches `size` in each dimension, then a crop to `size`.

    A resize to `size` would be wrong: a grid of 63 cells with twice the spacing of a grid of 125 cells covers 126 cells.
    """
    factors = [_power_of_two(wanted / given) for wanted, given in zip(size, features.shape[-2:], strict=True)]
    larger = [given * factor for given, factor in zip(features.shape[-2:], factors, strict=True)]
    return resize(features, larger)[..., : size[0], : size[1]]


def _power_of_two(ratio: float) -> int:
    factor = 1
    while factor < ratio:
        factor *= 2
    return factor


def boundaries(network: IRNet, pairs: torch.Tensor, padding: int = 0) -> torch.Tensor:
    """Boundary probabilities [B,ceil(H/4),ceil(W/4)] of images and their mirrors [B,2,3,H,W]: sigmoid of the mean logit.

    All are padded with 0 on the right and below to `padding` pixels a side (0: no padding), which changes what the group
    norms see. A larger image keeps its size (the public code would crop it).
    """
    height, width = pairs.shape[-2:]
    padded = functional.pad(pairs.flatten(0, 1), (0, max(0, padding - width), 0, max(0, padding - height)))
    rows, columns = strided((height, width))
    return torch.sigmoid(sum_of_pairs(network.boundaries(padded)[:, 0, :rows, :columns]) / 2)
