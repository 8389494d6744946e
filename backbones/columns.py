"""Convolutions of few images of new sizes on a GPU, as one matrix product of the columns that their filters see.

cuDNN prepares a convolution anew for every shape of its input, in 1 to 4 ms, and photographs have many sizes. Measured on an H200
with cuDNN 9.19 in bfloat16: two images of a new size take 94 ms through a ResNet-50, and 5.6 ms by products, with 1.2 ms for the
first convolution, which stays with cuDNN. Sixteen images of a known size take 5 ms by cuDNN and 6 ms by products.
"""

from math import prod

import torch
from torch import nn
from torch.nn import functional

from backbones.pointwise import is_half_on_gpu

ENOUGH = 8  # images; so many of one size are met again, and then cuDNN is quicker
LARGEST = 1 << 30  # bytes of columns; a head of 2048 channels on a large image would have many GB
WIDE = 32  # channels of the images; columns of fewer are too short


class ColumnsConv2d(nn.Conv2d):
    """A convolution that leaves cuDNN aside where preparing it costs more; its parameters have their names in `nn.Conv2d`."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B,C,H,W] to [B,outputs,h,w]."""
        new = is_half_on_gpu(images) and not torch.is_grad_enabled() and len(images) < ENOUGH
        if new and images.nbytes * prod(self.kernel_size) <= LARGEST:
            return convolve(images, self)
        return super().forward(images)


def convolve(images: torch.Tensor, convolution: nn.Conv2d) -> torch.Tensor:
    """Images [B,C,H,W] to [B,outputs,h,w] as `convolution` does it, by a product with all that its filters see (im2col)."""
    rows, columns = map(int, convolution.padding)
    padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, columns, columns, rows, rows))
    seen = padded.unfold(1, convolution.dilation[0] * (convolution.kernel_size[0] - 1) + 1, convolution.stride[0])
    seen = seen.unfold(2, convolution.dilation[1] * (convolution.kernel_size[1] - 1) + 1, convolution.stride[1])
    seen = seen[..., :: convolution.dilation[0], :: convolution.dilation[1]]  # [B,h,w,C,kernel height,kernel width]
    flat = seen.permute(0, 1, 2, 4, 5, 3).flatten(3)  # channels last, as they lie in memory
    filters = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    return functional.linear(flat, filters, convolution.bias).permute(0, 3, 1, 2)


def has_columns(convolution: nn.Conv2d) -> bool:
    """Whether `ColumnsConv2d` computes what it does, with columns that are long enough."""
    plain = convolution.groups == 1 and convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    return plain and convolution.in_channels >= WIDE
