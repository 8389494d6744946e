"""The refiner `none`: the label map of the seeds themselves is the pseudo mask."""

from collections.abc import Callable

import numpy as np

from imagesets.item import VOID, Item
from maps.labelling import Background, label_map, to_labels
from maps.maps import Maps
from refiners.certain_filter import certain
from training.stage import Context, Settings


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
