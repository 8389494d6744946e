"""The maps of one image from a network's features at every scale."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from imagesets.item import Item
from imagesets.views import Loaded, load, pairs
from maps.maps import Maps
from training.stage import Context, Finish, PerImage, Record

# (features [2,C,h,w] of image and mirror, 0-based class indices [n] on their device) -> maps [n,h,w]
ClassMaps = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def per_image(context: Context, class_maps: ClassMaps) -> PerImage:
    """The function `one(item)` of a map stage: `class_maps` of the network's features at all scales, for the image's own classes.

    It reads the word `network` (with `features`) and the setting `scales`. An image without labels has no maps.
    """
    network, device = context.inputs["network"], context.device

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        grids: list[list[torch.Tensor]] = [[] for _ in batch]
        keys = [loaded.labels.to(device, non_blocking=True) for loaded in batch]
        for views in pairs(batch, device):
            features = network.features(views.flatten(0, 1)).unflatten(0, (-1, 2))
            for own, pair, labels in zip(grids, features, keys, strict=True):
                own.append(class_maps(pair, labels))
        return grids

    return at_scales(context, compute, linear_maps)


def at_scales(
    context: Context, compute: Callable[[Sequence[Loaded]], Sequence[Sequence[torch.Tensor]]], finish: Finish
) -> PerImage:
    """The function `one(item)` of a map stage that sees images at the `scales` of its settings; see `PerImage`.

    An image without labels has no views.
    """
    scales, device = context.settings.scales, context.device
    return PerImage(lambda item: load(item, scales if item.labels else (), device), compute, finish)


def own_maps(item: Item, rgb: np.ndarray, grids: Sequence[np.ndarray], **extras: np.ndarray) -> Record:
    """The record of one image: grids [n,h_r,w_r] of its own classes, or whatever its reader expects, and `extras` by name."""
    return Maps(np.array(item.labels, np.int64), rgb.shape[:2], tuple(grids), extras).arrays()


def linear_maps(item: Item, rgb: np.ndarray, grids: Sequence[np.ndarray]) -> Record:
    """The record of one image: the maps [n,h_r,w_r] of its own classes at each scale, to unit peaks."""
    return own_maps(item, rgb, to_unit_peaks(grids))


def to_unit_peaks(grids: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Grids [n,h_r,w_r] scaled by one factor per class, so that its largest magnitude over all grids is 1.

    Half precision then keeps maps of any magnitude, and the later division by the maximum removes the factor.
    """
    if not grids:
        return ()
    peaks = np.max([np.abs(grid).max(axis=(1, 2), initial=1e-20) for grid in grids], axis=0)
    return tuple(grid / peaks[:, None, None] for grid in grids)
