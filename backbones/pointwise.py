"""1x1 convolutions, computed in a quicker way and equal within rounding.

On a CPU with one thread and fewer than 16 images, torch 2.13 computes a 1x1 convolution of stride 1 in float32 by a product of
its own (`use_mkldnn` in its Convolution.cpp), at half the rate of oneDNN. As a batch of images of one row each, the same numbers
go to oneDNN; with channels last, that batch is a view.

Measured on an AMD EPYC (Zen 5, avx512), images of 375x500, pairs: on one thread a ResNet-50 takes 0.66 of its time, a
MobileNetV2 0.77, and our small network, which has no 1x1 convolutions of stride 1, the same. On two threads torch takes oneDNN
by itself, and so it does for bfloat16; rows would cost up to a quarter more there, so they are not used.

On a GPU in half precision, a product of all pixels is as quick as cuDNN's convolution, and needs no preparation for each new size
of image; see `backbones.columns`.
"""

import torch
from torch import nn
from torch.nn import functional

ENOUGH = 16  # images; torch takes oneDNN for as many


def convolve(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Images [B,C,H,W] and 1x1 filters [outputs,C,1,1] to [B,outputs,H,W], as `conv2d` does it."""
    if is_half_on_gpu(images) and not weight.requires_grad:
        return functional.linear(images.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    batch, channels, height, width = images.shape
    slow = images.device.type == "cpu" and images.dtype is torch.float32 and torch.get_num_threads() == 1
    if not slow or not batch < ENOUGH <= batch * height:
        return functional.conv2d(images, weight, bias)
    rows = images.permute(0, 2, 3, 1).reshape(batch * height, 1, width, channels).permute(0, 3, 1, 2)
    made = functional.conv2d(rows, weight, bias)
    return made.permute(0, 2, 3, 1).reshape(batch, height, width, len(weight)).permute(0, 3, 1, 2)


def is_half_on_gpu(images: torch.Tensor) -> bool:
    """Whether images are in half precision on a GPU with channels last, where one row for each pixel is a view.

    Networks with depthwise convolutions have channels first there (`backbones.layout`).
    """
    return images.is_cuda and images.element_size() == 2 and images.is_contiguous(memory_format=torch.channels_last)


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution of stride 1 without padding; its parameters have the names that they have in `nn.Conv2d`."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B,C,H,W] to [B,outputs,H,W]."""
        return convolve(images, self.weight, self.bias)


def is_pointwise(convolution: nn.Conv2d) -> bool:
    """Whether `PointwiseConv2d` computes what it does."""
    plain = convolution.kernel_size == convolution.stride == (1, 1) and convolution.padding == (0, 0)
    return plain and convolution.groups == 1
