"""Saliency as the score of background: the pseudo masks of EDAM, and of any maps for which there are saliency maps.

Wu et al., Embedded Discriminative Attention Mechanism for Weakly Supervised Semantic Segmentation, CVPR 2021, as in the public
code (allenwu97/EDAM). A dense CRF refines the maps beside the background 1 - their maximum. Where nothing is salient, background
then has the score 1, and elsewhere 0; a pixel gets the highest of that score and the refined maps.

As in the code, saliency 0..255 is compared with 100 times the threshold, so 0.2 means 20 of 255.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from imagesets.item import Item
from imagesets.saliency import SaliencyMaps
from imagesets.saliency import saliency_problems as problems_of
from imagesets.transforms import rescale
from maps.labelling import to_labels
from maps.normalising import with_own_background
from refiners import crf
from training.stage import Context

PERCENT = 100  # what the threshold is multiplied by, though saliency goes to 255
NOTHING, CERTAIN = 1e-6, 0.99999  # a class score below the first never wins, one above the second beats background


def salient_labels(scores: torch.Tensor, saliency: torch.Tensor, keys: np.ndarray, threshold: float) -> np.ndarray:
    """A label map uint8 [H,W] from class scores [n,H,W] of the classes `keys` [n] and saliency uint8 [H,W].

    The score of background is 1 where saliency is at most 100 * `threshold`, else 0; background wins a draw. Of several classes
    that are certain the first wins.
    """
    background = (saliency <= PERCENT * threshold).float()
    if not len(keys):
        return np.zeros(background.shape, np.uint8)
    peak, index = scores.masked_fill(scores > CERTAIN, 2.0).max(dim=0)
    wins = (peak >= NOTHING) & (peak > background)
    return to_labels(torch.where(wins, index + 1, 0).numpy(), keys)


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `saliency`."""
    settings, found = context.settings, SaliencyMaps.of(context.settings.images.saliency)

    def one(item: Item) -> dict[str, np.ndarray]:
        maps, rgb = context.inputs["maps"][item.id], item.rgb()
        saliency = torch.from_numpy(rescale(found(item, rgb), maps.size).copy())
        scores = _refined(rgb, maps.full(), settings.crf)
        return {"label": salient_labels(scores, saliency, maps.keys, settings.threshold)}

    return one


def saliency_problems(context: Context) -> list[str]:
    """What is wrong with the folder of saliency maps, before anything runs."""
    source = context.settings.images.saliency
    return problems_of(source, context.items) if source != "none" else []  # then the plan is refused for that


def _refined(rgb: np.ndarray, maps: torch.Tensor, parameters: Any) -> torch.Tensor:
    """The maps [n,H,W], or the CRF's marginals of them."""
    if parameters == "none" or not len(maps):
        return maps
    scores = with_own_background(maps).numpy()
    return torch.from_numpy(crf.soft(rgb, scores, crf.Parameters(**parameters))[1:])
