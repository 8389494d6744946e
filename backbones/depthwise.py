"""Depthwise convolutions whose gradients are slow in bfloat16; they are computed in float32 where gradients are needed.

Measured with torch 2.13 on an AMD EPYC (Zen 5, avx512_bf16), one thread, forward and backward with the conversions (by
`python -m benchmarks.depthwise`): a 3x3 filter of stride 2 on 16 images of 144 channels of 56x56 takes 52 ms in bfloat16 and 8 ms
this way, a 5x5 filter of stride 1 on 240 channels of 28x28 46 and 22 ms, a dilated 3x3 one on 576 channels of 20x20 (8 images) 32
and 15 ms. A plain 3x3 filter of stride 1 is as quick in bfloat16, and so is every forward pass.
"""

import torch
from torch import nn


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution; its parameters have the names that they have in `nn.Conv2d`."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B,C,H,W] to [B,C,h,w], in bfloat16 where the network computes in it."""
        kind = images.device.type
        if kind != "cpu" or not torch.is_autocast_enabled(kind) or not torch.is_grad_enabled():
            return super().forward(images)
        with torch.autocast(kind, enabled=False):
            made = super().forward(images.float())
        return made.to(torch.get_autocast_dtype(kind))


def has_slow_gradients(convolution: nn.Conv2d) -> bool:
    """Whether it is depthwise, and strided, dilated or larger than 3x3."""
    depthwise = 1 < convolution.in_channels == convolution.groups
    return depthwise and (convolution.stride != (1, 1) or convolution.dilation != (1, 1) or max(convolution.kernel_size) > 3)
