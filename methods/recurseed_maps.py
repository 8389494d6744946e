"""RecurSeed's maps: its CAM, SCG's spread of it, that refined by PAMR, and the decoder's, all of one pass over the scales.

As in the first release of the public code, rectified CAMs and features of all scales and mirror images are added up before SCG
compares them. The decoder's map is the mean of its probabilities over scales and mirror images. The stage `outputs` stores each
map on its own grid, and the cheap stage `maps` picks one.

Unlike the code: it makes the decoder's map at the size of the image. It enlarges logits to their view by nearest neighbour, makes
probabilities of them and resizes those to the image. Ours go from the grid of the logits straight to the stored grid at stride 4,
because maps at the size of the image take 16 times the space. The code's borders are steps of whole cells, ours are smooth.
`segmentation.single_stage`, which stores no maps, segments validation images as the code does.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from imagesets.item import Item
from imagesets.normalising import normalised
from imagesets.views import Loaded, images, load, sum_of_pairs
from maps.grids import resize, strided
from maps.maps import Maps
from maps.reading import summed, unit_maximum
from methods.recurseed import pamr_parameters
from methods.recurseed_network import RecurSeed
from refiners import pamr, scg
from segmentation.fusion import RULES
from training.stage import Context, PerImage, Record

CAM_STRIDE, DECODER_STRIDE = 8, 4  # pixels per cell of the stored CAM (as published) and of the decoder's map
KINDS = ("cam", "scg", "decoder")


def outputs(context: Context) -> PerImage:
    """The maps of one image's own classes by kind, float16 [n,h,w], each on its grid; beside them its `keys` and `size`."""
    settings, network, device = context.settings, context.inputs["network"], context.device
    scales, layers, stride = settings.scales, settings.scg.layers, settings.scg.stride
    parameters = scg.Parameters.of(settings.scg)

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        if not batch[0].views:
            return [[] for _ in batch]
        size = batch[0].rgb.shape[:2]
        grids = [strided(size, CAM_STRIDE), strided(size, DECODER_STRIDE), *[strided(size, stride)] * len(layers)]
        (whole,) = images(batch, device)
        scaled = (RULES["mean_view_softmax"].resizing(whole, scale) for scale in scales)
        views = (summed_on_grids(network, torch.stack([view, view.flip(-1)], dim=1), layers, grids) for view in scaled)
        cams, decoded, *features = (sum(planes[1:], planes[0]) for planes in zip(*views, strict=True))
        found = []
        for place, loaded in enumerate(batch):
            keys = loaded.labels.to(device, non_blocking=True)
            cam = unit_maximum(cams[place, keys])
            seeds = unit_maximum(resize(cam, grids[-1]))
            spread = scg.spread([layer[place][None] for layer in features], seeds[None], parameters)[0]
            found.append([cam, spread, decoded[place, 1 + keys] / (2 * len(scales))])
        return found

    return PerImage(lambda item: load(item, [1.0] if item.labels else (), device), compute, _record)


def summed_on_grids(
    network: RecurSeed, pair: torch.Tensor, layers: Sequence[int], grids: Sequence[tuple[int, int]]
) -> list[torch.Tensor]:
    """What the network makes of normalised images and their mirror images [B,2,3,H,W], both added up, each on its grid.

    Rectified CAMs [B,K,h,w], probabilities of the decoder [B,1+K,h,w], and the features [B,C,h,w] of the `layers` (1 to 5).
    """
    scores, decoded, taps = network.both(pair.flatten(0, 1))
    planes = scores.relu(), decoded.softmax(dim=1), *(taps[layer - 1] for layer in layers)
    return [resize(sum_of_pairs(plane), grid) for plane, grid in zip(planes, grids, strict=True)]


def _record(item: Item, rgb: np.ndarray, found: Sequence[np.ndarray]) -> Record:
    grids = found or [np.zeros((0, 1, 1))] * len(KINDS)
    named = {kind: grid.astype(np.float16) for kind, grid in zip(KINDS, grids, strict=True)}
    return {"keys": np.array(item.labels, np.int64), "size": np.array(rgb.shape[:2]), **named}


def maps(context: Context) -> Callable[[Item], Record]:
    """The maps of the kind that the setting names; `scg+pamr` begins as `scg`."""
    kind = context.settings.maps.partition("+")[0]

    def one(item: Item) -> Record:
        found = context.inputs["outputs"][item.id]
        height, width = (int(side) for side in found["size"])
        return Maps(found["keys"], (height, width), (found[kind],)).arrays()

    return one


def refined(context: Context) -> Callable[[Item], Record]:
    """The maps, refined by PAMR on the grid of the decoder, as in training."""
    parameters = pamr_parameters(context.settings)

    def one(item: Item) -> Record:
        own = context.inputs["maps"][item.id]
        image = resize(normalised(torch.from_numpy(item.rgb().copy())), own.extent(full=False))
        grid = pamr.refined(image[None], own.strided()[None], **parameters)[0]
        return Maps(own.keys, own.size, (grid.numpy(),)).arrays()

    return one


def read(maps: Maps, full: bool) -> torch.Tensor:
    """The reader: the grid resized, each class divided by its maximum + 1e-5."""
    return unit_maximum(summed(maps, full))
