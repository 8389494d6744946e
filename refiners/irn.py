"""IRN as a refiner (Ahn, Cho & Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations, CVPR 2019).

Confident labels train a network that finds class boundaries. The maps then spread by a random walk that the boundaries hold
back. We follow the public code (jiwoon-ahn/irn). The geometry of pairs, the network, its losses and the walk have a file each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

import backbones
from imagesets import transforms
from imagesets.crops import Crop, by_scale
from imagesets.errors import WrongInput
from imagesets.item import Item
from imagesets.views import Loaded, load, pairs
from maps.grids import resize, strided
from maps.labelling import label_map
from refiners.irn_losses import losses
from refiners.irnet import IRNet, boundaries
from refiners.random_walk import walk
from training import optimisers
from training.stage import Context, Losses, Outputs, PerImage, Record, Records, Settings, Training

GRID = 4  # pixels per cell of the boundary grid, in each direction


def network(settings: Settings, classes: tuple[str, ...]) -> IRNet:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return IRNet(backbones.build(settings.backbone.name, weights="none", frozen_statistics=True))


def training(context: Context) -> Training:
    """Stage: train IRNet's two branches on confident labels (word `labels`), on top of a backbone that does not train."""
    settings = context.settings
    _check_reach(settings.crop, settings.pair_radius)
    irnet = IRNet(backbones.build(settings.backbone.name, weights=settings.backbone.weights, frozen_statistics=True))
    if settings.backbone.weights == "none":
        irnet.backbone.adopt(context.inputs["network"])
    parts = (irnet.boundary_parameters(), settings.lr), (irnet.displacement_parameters(), settings.displacement_lr)
    steps = optimisers.steps(len(context.items), settings.batch, settings.epochs)
    return Training(
        network=irnet,
        objective=InterPixelObjective(irnet, len(context.classes), settings.pair_radius),
        sample=GridLabelledCrop(context.inputs["labels"], settings.scale_range, settings.crop),
        optimiser=optimisers.build("sgd", optimisers.groups(settings.weight_decay, *parts), momentum=settings.momentum),
        schedule=optimisers.poly(steps),
        batch=settings.batch,
        steps=steps,
        finish=partial(set_mean_displacement, irnet, context) if settings.mean_shift else None,
    )


@dataclass(frozen=True)
class GridLabelledCrop:
    """Makes one training example: image RGBA uint8 [4,crop,crop] and its labels uint8 on the boundary grid, [crop/4,crop/4]."""

    labels: Records
    scale_range: Sequence[float]
    crop: int

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rgb, label = item.rgb(), self.labels[item.id]["label"]
        crop = Crop.drawn(by_scale(rgb.shape[:2], self.scale_range, rng), self.crop, rng)
        # nearest at cell centres: rows and columns 2, 6, 10, ... of a crop of 512
        coarse = transforms.rescale(crop.label(label), strided((self.crop, self.crop), GRID), bicubic=False)
        return {"image": torch.from_numpy(crop.image(rgb)), "label": torch.from_numpy(coarse.copy())}


class InterPixelObjective(nn.Module):
    """The four losses, which are means over the pairs of the batch (of a share, if workers or parts share the batch)."""

    def __init__(self, irnet: IRNet, classes: int, radius: int) -> None:
        super().__init__()
        self.network, self.classes, self.radius = irnet, classes, radius

    def forward(self, batch: Mapping[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop] and label uint8 [B,crop/4,crop/4].

        Outputs are boundary logits [B,1,h,w] and displacement [B,2,h,w].
        """
        logits, displacement = self.network(batch["image"])
        named = losses(logits, displacement, batch["label"], self.classes, self.radius)
        return named, {"boundary": logits, "displacement": displacement}


def _check_reach(crop: int, radius: int) -> None:
    least = GRID * (2 * radius - 2) + 1
    if crop < least:
        raise WrongInput(
            f"irn.crop={crop} holds no pairs of irn.pair_radius={radius}; crop at least {least} pixels or lower the radius"
        )


@torch.no_grad()
def set_mean_displacement(irnet: IRNet, context: Context) -> None:
    """Store the mean displacement over the top left crops of the training list, without the incomplete last batch.

    Only instance segmentation reads it; pseudo masks depend on boundaries alone.
    """
    crop, batch = context.settings.crop, context.settings.batch
    whole = len(context.items) // batch * batch
    irnet.displacement_mean.zero_()
    total = torch.zeros_like(irnet.displacement_mean)
    for start in range(0, whole, batch):
        images = [transforms.normalise(item.rgb()) for item in context.items[start : start + batch]]
        crops = np.stack([transforms.top_left_crop(image, crop, 0.0) for image in images])
        total += irnet(torch.from_numpy(crops).to(total.device))[1].sum(dim=0).mean(dim=(1, 2))
    irnet.displacement_mean.copy_(total / whole)


def masks(context: Context) -> PerImage:
    """Stage: pseudo masks from maps after the random walk between the boundaries of the trained network."""
    settings, irnet, device = context.settings, context.inputs["affinity"], context.device

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        found = [boundaries(irnet, views, settings.padding) for views in pairs(batch, device)]
        return [[edges[place] for edges in found] for place in range(len(batch))]

    def finish(item: Item, rgb: np.ndarray, edges: Sequence[np.ndarray]) -> Record:
        maps = context.inputs["maps"][item.id]
        if len(maps.keys) == 0:
            return {"label": np.zeros(maps.size, np.uint8)}
        started = maps.planes(full=False)  # a background map walks like a class
        reach = settings.walk_radius, settings.beta, settings.exp_times
        walked = walk(started**settings.maps.walk_power, torch.from_numpy(edges[0]), *reach)
        constant = settings.maps.walk_background if len(started) == len(maps.keys) else None
        return {"label": walked_labels(walked, maps.keys, maps.size, constant)}

    return PerImage(lambda item: load(item, [1.0] if item.labels else [], device), compute, finish)


def walked_labels(walked: torch.Tensor, keys: np.ndarray, size: tuple[int, int], background: float | None) -> np.ndarray:
    """Walked maps [n,h,w] to a label map uint8 `size`: upsampled four times, divided by ONE maximum over all classes, argmax.

    With the common maximum a weak class may vanish below the constant `background` (as in the public code). If that is None,
    `walked` is [1+n,h,w], and a class must exceed its first map (SIPE code).
    """
    larger = resize(walked, [GRID * side for side in walked.shape[1:]])[:, : size[0], : size[1]]
    shares = larger / larger.max().clamp_min(torch.finfo(larger.dtype).tiny)
    if background is None:
        return label_map(shares[1:], keys, shares[0])
    return label_map(shares, keys, background)
