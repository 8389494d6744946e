"""The maps of one image from a network's features at every scale."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from imagesets.item import Item
from imagesets.transforms import views
from maps.maps import Maps
from training.stage import Context

# (features [2,C,h,w] of image and mirror, 0-based class indices [n]) -> maps [n,h,w]
ClassMaps = Callable[[torch.Tensor, list[int]], torch.Tensor]


def per_image(context: Context, class_maps: ClassMaps) -> Callable[[Item], dict[str, np.ndarray]]:
    """The function `one(item)` of a map stage: `class_maps` of the network's features at all scales, for the image's own classes.

    It reads the word `network` (with `features`) and the setting `scales`. An image without labels has no maps.
    """
    network, scales = context.inputs["network"], context.settings.scales

    @torch.no_grad()
    def one(item: Item) -> dict[str, np.ndarray]:
        rgb, keys = item.rgb(), list(item.labels)
        pairs = (torch.from_numpy(view).to(context.device) for view in (views(rgb, scales) if keys else ()))
        grids = tuple(class_maps(network.features(pair), keys).cpu().numpy() for pair in pairs)
        return Maps(np.asarray(keys, np.int64), rgb.shape[:2], to_unit_peaks(grids)).arrays()

    return one


def to_unit_peaks(grids: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Grids [n,h_r,w_r] scaled by one factor per class, so that its largest magnitude over all grids is 1.

    Half precision then keeps maps of any magnitude, and the later division by the maximum removes the factor.
    """
    if not grids:
        return ()
    peaks = np.max([np.abs(grid).max(axis=(1, 2), initial=1e-20) for grid in grids], axis=0)
    return tuple(grid / peaks[:, None, None] for grid in grids)
