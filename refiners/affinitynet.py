"""AffinityNet as a refiner, also called PSA.

Ahn and Kwak, Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised Semantic Segmentation,
CVPR 2018. A network learns whether nearby cells have the same label, from the cells that a dense CRF is sure of whichever of two
background scores it gets: (1 - largest map)^alpha for two alphas. Then the maps spread by a random walk along the learnt
affinities. Pairs, network and walk have a file each. We follow the public code as SEAM, HFPL and MCTformer use it.

As in the code, a background map walks with the maps: (1 - largest map)^6, or a constant (MCTformer).
Unlike the code:
* the scores of the CRF are kept as whole 255ths, which changes the label of a cell in 3,000, where scores are nearly equal;
* a background map of the method's own takes the place of 1 - largest map;
* without initial weights the backbone starts from that of the network before it, as in our IRN. Behind a network of another kind
  (`start=scratch`) it trains from scratch, whole and with live batch norms;
* on a backbone that trains with batch norms, their scale and shift train as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import backbones
from imagesets.colour import RULES, Recolour
from imagesets.crops import Crop
from imagesets.item import VOID, Item
from imagesets.views import Loaded, images, load
from maps.labelling import to_labels
from maps.maps import Maps
from refiners import crf
from refiners.affinity_network import AffinityNet
from refiners.affinity_pairs import affinities, kinds_of_pairs, losses, reachable
from refiners.affinity_walk import filled_up, pooled, walk, walked_labels
from training.over_epochs import over_epochs
from training.parameter_groups import by_origin
from training.stage import Context, Losses, Outputs, PerImage, Record, Records, Settings, Training

NOTHING = 1e-5  # where no score is as large there is no image (PSA code)


def scores(context: Context) -> Callable[[Item], Record]:
    """Stage: the CRF's scores of one image's labels, with a strong and a weak background: uint8 [2,1+n,H,W] in 255ths."""
    settings, parameters = context.settings, crf.Parameters(**context.settings.crf)

    def one(item: Item) -> Record:
        maps = context.inputs["maps"][item.id]
        stacks = score_stacks(item.rgb(), maps.full(), implied_background(maps), settings.alphas, parameters)
        return {"keys": maps.keys, "scores": np.rint(255 * stacks).astype(np.uint8)}

    return one


def implied_background(maps: Maps) -> torch.Tensor:
    """1 - the largest of the maps at full size [H,W], or the method's own background map."""
    own = maps.background(full=True)
    return (1 - maps.full().amax(dim=0)).clamp(min=0) if own is None else own


def score_stacks(
    rgb: np.ndarray, maps: torch.Tensor, background: torch.Tensor, alphas: Sequence[float], parameters: crf.Parameters
) -> np.ndarray:
    """For each alpha the CRF's marginals of the scores [background^alpha, maps]: float32 [alphas,1+n,H,W].

    `maps` [n,H,W] and `background` [H,W] lie between 0 and 1; the image is uint8 [H,W,3].
    """
    given = [torch.cat([background[None] ** alpha, maps]).numpy() for alpha in alphas]
    return np.stack([crf.soft(rgb, stack, parameters) for stack in given] if len(maps) else given)


def grid_labels(stacks: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """What both stacks of scores [2,1+n,h,w] agree on: uint8 [h,w] of 0, class index + 1, 255 undecided or outside the image.

    The first stack has the strong background (the smaller alpha): its foreground is trusted. So is the other one's background.
    """
    strong, weak = stacks.argmax(axis=1)
    label = np.where(strong == 0, np.uint8(VOID), to_labels(strong, keys))
    label[weak == 0] = 0
    label[stacks.max(axis=(0, 1)) < NOTHING] = VOID
    return label


def network(settings: Settings, classes: tuple[str, ...], weights: str = "none") -> AffinityNet:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    frozen = not _from_scratch(settings)
    return AffinityNet(backbones.build(settings.backbone.name, weights=weights, frozen_statistics=frozen))


def training(context: Context) -> Training:
    """Stage: train the backbone and the layers on it with pairs of cells of known labels (word `scores`)."""
    settings = context.settings
    module = network(settings, context.classes, settings.backbone.weights)
    if not _from_scratch(settings):
        if settings.backbone.weights == "none":
            module.backbone.adopt(context.inputs["network"])
        module.backbone.freeze(settings.frozen)
    groups = by_origin(module, module.backbone, settings.lr, 10 * settings.lr, settings.weight_decay)
    objective = AffinityObjective(module, len(context.classes), settings.radius)
    sample = ScoredCrop(context.inputs["scores"], settings.crop, RULES[settings.colour])
    return over_epochs(context, module, objective, sample, groups)


@dataclass(frozen=True)
class ScoredCrop:
    """Makes one training example: image RGBA uint8 [4,crop,crop] and its labels uint8 [ceil(crop/8),ceil(crop/8)]."""

    scores: Records
    crop: int
    recolour: Recolour | None

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rgb, record = item.rgb(), self.scores[item.id]
        if self.recolour is not None:
            rgb = self.recolour(rgb, rng)
        crop, stacks = Crop.drawn(rgb.shape[:2], self.crop, rng), record["scores"]
        planes = np.stack([crop.plane(plane, fill=0) for plane in stacks.reshape(-1, *rgb.shape[:2])])
        means = pooled(torch.from_numpy(planes)).numpy()
        label = grid_labels(means.reshape(*stacks.shape[:2], *means.shape[1:]), record["keys"])
        return {"image": torch.from_numpy(crop.image(rgb)), "label": torch.from_numpy(label)}


class AffinityObjective(nn.Module):
    """The three losses of pairs, see `affinity_pairs.losses`."""

    def __init__(self, network: AffinityNet, classes: int, radius: int) -> None:
        super().__init__()
        self.network, self.classes, self.radius = network, classes, radius

    def forward(self, batch: Mapping[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop] and label uint8 [B,h,w]. The output is affinity [directions,B,rows,columns]."""
        affinity = affinities(self.network(batch["image"]), self.radius)
        return losses(affinity, kinds_of_pairs(batch["label"], self.classes, self.radius)), {"affinity": affinity}


def masks(context: Context) -> PerImage:
    """Stage: pseudo masks from maps after the random walk along the affinities of the trained network, at scale 1."""
    settings, module, device = context.settings, context.inputs["affinity"], context.device

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        found = [module(filled_up(views)) for views in images(batch, device)]
        planes = [affinities(features, reachable(features.shape[2:], settings.radius)) for features in found]
        return [[affinity[:, place] for affinity in planes] for place in range(len(batch))]

    def finish(item: Item, rgb: np.ndarray, found: Sequence[np.ndarray]) -> Record:
        maps = context.inputs["maps"][item.id]
        if len(maps.keys) == 0:
            return {"label": np.zeros(maps.size, np.uint8)}
        started = pooled(torch.cat([walking_background(maps, settings)[None], maps.full()]))
        radius = reachable(started.shape[1:], settings.radius)
        walked = walk(started, found[0], radius, settings.beta, settings.exp_times)
        return {"label": walked_labels(walked, maps.keys, maps.size)}

    return PerImage(lambda item: load(item, [1.0] if item.labels else [], device), compute, finish)


def walking_background(maps: Maps, settings: Settings) -> torch.Tensor:
    """The background map [H,W] that walks with the maps: a constant, or a power of the implied background."""
    if settings.background:
        return torch.full(maps.size, settings.background)
    return implied_background(maps) ** settings.background_alpha


def _from_scratch(settings: Settings) -> bool:
    return settings.backbone.weights == "none" and settings.start == "scratch"
