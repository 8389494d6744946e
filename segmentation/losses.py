"""Cross entropy on label maps with void."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from imagesets.item import VOID


def cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over the pixels that are not void; 0, not NaN, if all are void.

    logits [B,L,h,w]; label integer [B,h,w], 255 for void.
    """
    label = label.long()
    total = functional.cross_entropy(logits, label, ignore_index=VOID, reduction="sum")
    return total / (label != VOID).sum().clamp(min=1)


def shrunk(label: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A label map [B,H,W] on a grid of `size` (height, width) by nearest neighbour at pixel centres, as Pillow does it.

    Torch's "nearest" takes floor(i * n_in / n_out), which shifts the labels against the logits by half a cell.
    """
    rows, columns = (sources(extent, to, label.device) for extent, to in zip(label.shape[-2:], size, strict=True))
    return label[:, rows[:, None], columns]


@lru_cache(maxsize=64)  # trainings ask for few sizes, in every step
def sources(extent: int, to: int, device: torch.device) -> torch.Tensor:
    """The index in 0..`extent`-1 that Pillow's nearest neighbour reads for each of `to` pixels, int64 [to].

    It is floor((i + 1/2) * extent / to), except that Pillow adds up floats, which may end just below a whole number.
    """
    line = Image.fromarray(np.arange(extent, dtype=np.int32)[None])
    return torch.from_numpy(np.array(line.resize((to, 1), Image.Resampling.NEAREST))[0]).long().to(device)


def averaged_cross_entropy(logits: torch.Tensor, label: torch.Tensor, averaging: str) -> torch.Tensor:
    """The cross entropy under a public code's rule of averaging.

    valid: the mean over pixels that are not void (torch; DeepLabV2, SEAM). all: their sum divided by the number of all pixels
    (mmsegmentation 0.x). batch: the mean over pixels that are not void, divided by the batch size (pytorch-deeplab-xception).
    """
    mean = cross_entropy(logits, label)
    if averaging == "all":
        return mean * (label != VOID).float().mean()
    return mean / len(label) if averaging == "batch" else mean
