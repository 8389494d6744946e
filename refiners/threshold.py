"""Maps to a label map: every pixel gets the class of its highest map, or background if no map exceeds the background score.

The CAM family makes seeds like this (IRN, ReCAM and LPCAM code): argmax over [threshold, maps], mapped to class index + 1. The
background score is a constant threshold, or the method's own background map.
"""

from collections.abc import Callable

import numpy as np
import torch

from imagesets.item import VOID, Item
from maps.maps import Maps
from refiners.certain_filter import certain
from training.stage import Context, Settings

Background = float | torch.Tensor  # a constant threshold, or a map [H,W]; a class must exceed it


def winners(maps: torch.Tensor, background: Background) -> np.ndarray:
    """Which of maps [n,H,W] is highest: uint8 [H,W] of 0 (none exceeds `background`; ties go to it too) or 1..n."""
    if maps.shape[0] == 0:
        return np.zeros(maps.shape[1:], np.uint8)
    peak, index = maps.max(dim=0)
    return torch.where(peak > background, index + 1, 0).to(torch.uint8).cpu().numpy()


def to_labels(chosen: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Map 0..n of `winners` to label values: 0 stays background, j becomes keys[j - 1] + 1; uint8."""
    return np.concatenate([[0], np.asarray(keys) + 1]).astype(np.uint8)[chosen]


def label_map(maps: torch.Tensor, keys: np.ndarray, background: Background) -> np.ndarray:
    """Maps [n,H,W] of the classes `keys` [n] to a label map uint8 [H,W]: 0 background, class index + 1."""
    return to_labels(winners(maps, background), keys)


def seed_background(maps: Maps, settings: Settings) -> Background:
    """The background score of seeds at full size: the maps' own background map, or the threshold of their method."""
    own = maps.background(full=True)
    return settings.maps.seed_threshold if own is None else own


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `none`: the scored seeds are the pseudo masks."""

    def one(item: Item) -> dict[str, np.ndarray]:
        maps = context.inputs["maps"][item.id]
        return {"label": label_map(maps.full(), maps.keys, seed_background(maps, context.settings))}

    return one


def certain_masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `none` after RecurSeed: pixels where no map is sure enough are void."""
    thresholds = context.settings.maps.certain_foreground, context.settings.maps.certain_background

    def one(item: Item) -> dict[str, np.ndarray]:
        maps = context.inputs["maps"][item.id]
        found = certain(maps.full(), *thresholds).numpy()
        return {"label": np.where(found == VOID, VOID, to_labels(np.where(found == VOID, 0, found), maps.keys))}

    return one
