"""Images as weights expect them that were trained on images of mean and deviation 0.5."""

import torch
from torch import nn

from imagesets.transforms import MEAN, STANDARD_DEVIATION


class ToHalf(nn.Module):
    """Images [B,3,H,W], normalised by ImageNet's mean and deviation, to the same images normalised by 0.5 and 0.5."""

    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", (torch.tensor(STANDARD_DEVIATION) / 0.5)[:, None, None], persistent=False)
        self.register_buffer("offset", ((torch.tensor(MEAN) - 0.5) / 0.5)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.factor + self.offset
