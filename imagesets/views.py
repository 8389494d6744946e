"""An image on its way to a network: rescaled on the CPU, sent as uint8, normalised and mirrored on the device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from imagesets.item import Item
from imagesets.normalising import normalised
from imagesets.transforms import rescale


@dataclass(frozen=True)
class Loaded:
    """An image uint8 [H,W,3], its views uint8 [h,w,3], one per scale, and its class indices int64 [n] as a tensor."""

    item: Item
    rgb: np.ndarray
    views: tuple[torch.Tensor, ...]
    labels: torch.Tensor

    @property
    def sizes(self) -> tuple[torch.Size, ...]:
        """The shapes of the views; images whose sizes are equal fit one batch."""
        return tuple(view.shape for view in self.views)


def load(item: Item, scales: Sequence[float], device: torch.device) -> Loaded:
    """Read an image and rescale it, for a network on `device`; scale 1 does not resize."""
    rgb = item.rgb()
    arrays = [*(np.array(rescale(rgb, scale)) for scale in scales), np.array(item.labels, np.int64)]
    # only from pinned memory does a copy to a GPU not wait for what the GPU has to do
    *views, labels = (tensor.pin_memory() if device.type == "cuda" else tensor for tensor in map(torch.from_numpy, arrays))
    return Loaded(item, rgb, tuple(views), labels)


def images(batch: Sequence[Loaded], device: torch.device) -> Iterator[torch.Tensor]:
    """The normalised images of a batch at each scale, float32 [B,3,h,w] on `device`."""
    for views in zip(*(loaded.views for loaded in batch), strict=True):
        yield normalised(torch.stack([view.to(device, non_blocking=True) for view in views]))


def pairs(batch: Sequence[Loaded], device: torch.device) -> Iterator[torch.Tensor]:
    """The normalised images of a batch and their mirror images at each scale, float32 [B,2,3,h,w] on `device`."""
    for scaled in images(batch, device):
        yield torch.stack([scaled, scaled.flip(-1)], dim=1)


def mirror_sum(both: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """The sum of what a network makes of an image and of its mirror image, which is turned back.

    `both` [..,2,..,w] has the two along the axis `dim`, which the sum lacks.
    """
    image, mirror = both.unbind(dim)
    return image + mirror.flip(-1)


def sum_of_pairs(made: torch.Tensor) -> torch.Tensor:
    """The `mirror_sum` [B,..,w] of each of B pairs, of what a network makes [2B,..,w] of `pairs` one image after the other."""
    return mirror_sum(made.unflatten(0, (-1, 2)), dim=1)
