"""Atrous spatial pyramid pooling of DeepLabV2: the sum of parallel dilated convolutions."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from backbones.pointwise import convolve
from backbones.precision import MixedPrecision


class ASPP(MixedPrecision, nn.ModuleList):
    """3x3 convolutions with a bias, one per rate (= dilation = padding), whose outputs are summed; no normalisation."""

    def __init__(self, channels: int, outputs: int, rates: Sequence[int]) -> None:
        super().__init__(nn.Conv2d(channels, outputs, 3, padding=rate, dilation=rate) for rate in rates)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.01 if parameter.ndim == 4 else 0.0)  # biases start at 0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [B,C,h,w] to [B,outputs,h,w].

        One product gives what each cell adds at every offset of every branch, and their shifted sum is the output: the sum of the
        branches within rounding. On a CPU it takes 0.4 of their time, because a convolution with few outputs is slow.
        """
        branches = self.branches()
        products = convolve(features, torch.cat([_by_offset(branch.weight) for branch in branches]))
        planes = iter(products.unflatten(1, (-1, branches[0].out_channels)).unbind(1))
        bias = torch.stack([cast(torch.Tensor, branch.bias) for branch in branches]).sum(dim=0)
        total = bias[:, None, None].expand(len(features), -1, *features.shape[2:]).clone()
        for branch in branches:
            for row in (-1, 0, 1):
                for column in (-1, 0, 1):
                    _add_shifted(total, next(planes), row * branch.dilation[0], column * branch.dilation[1])
        return total

    def on_constant(self, vectors: torch.Tensor) -> torch.Tensor:
        """The outputs [N,outputs] far from any border for maps that have one of the `vectors` [N,C] everywhere."""
        branches = self.branches()
        return torch.stack([functional.linear(vectors, branch.weight.sum(dim=(2, 3)), branch.bias) for branch in branches]).sum(
            dim=0
        )

    def branches(self) -> list[nn.Conv2d]:
        """The convolutions, one per rate."""
        return [cast(nn.Conv2d, branch) for branch in self]


def _by_offset(weight: torch.Tensor) -> torch.Tensor:
    """3x3 filters [outputs,C,3,3] as 1x1 filters [9*outputs,C,1,1], offset by offset."""
    return weight.permute(2, 3, 0, 1).flatten(0, 2)[:, :, None, None]


def _add_shifted(total: torch.Tensor, plane: torch.Tensor, rows: int, columns: int) -> None:
    """Add to each cell of `total` [B,n,h,w] what `plane` has `rows` below it and `columns` to its right, if that is inside."""
    (to_rows, of_rows), (to_columns, of_columns) = (
        _overlap(*pair) for pair in zip((rows, columns), total.shape[2:], strict=True)
    )
    total[:, :, to_rows, to_columns] += plane[:, :, of_rows, of_columns]


def _overlap(shift: int, extent: int) -> tuple[slice, slice]:
    seen = max(0, extent - abs(shift))
    return slice(max(0, -shift), max(0, -shift) + seen), slice(max(0, shift), max(0, shift) + seen)
