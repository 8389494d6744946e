"""Atrous spatial pyramid pooling of DeepLabV2: the sum of parallel dilated convolutions."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional


class ASPP(nn.ModuleList):
    """3x3 convolutions with a bias, one per rate (= dilation = padding), whose outputs are summed; no normalisation."""

    def __init__(self, channels: int, outputs: int, rates: Sequence[int]) -> None:
        super().__init__(nn.Conv2d(channels, outputs, 3, padding=rate, dilation=rate) for rate in rates)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.01 if parameter.ndim == 4 else 0.0)  # biases start at 0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [B,C,h,w] to [B,outputs,h,w]."""
        return torch.stack([branch(features) for branch in self]).sum(dim=0)

    def on_constant(self, vectors: torch.Tensor) -> torch.Tensor:
        """The outputs [N,outputs] far from any border for maps that have one of the `vectors` [N,C] everywhere."""
        branches = [cast(nn.Conv2d, branch) for branch in self]
        return torch.stack([functional.linear(vectors, branch.weight.sum(dim=(2, 3)), branch.bias) for branch in branches]).sum(
            dim=0
        )
