"""EdgePredictMix (EPM): objects that the decoder predicts are pasted on another image, and the decoder and the CAM learn from it.

Jo, Yu and Kim, RecurSeed and EdgePredictMix, arXiv 2204.06754, Eq. 12-20. The code of it was never published.

    M_dec  the decoder's softmax over the classes that an image shows, refined by PAMR inside the image
    M_ep   CertainFilter's labels of M_dec, relabelled by EdgePredict (`refiners.edge_predict`)
    G      1 where M_ep is a class (Eq. 12)
    image, M_ep and M_rs of image i inside G, those of another image j outside (Eq. 13-15)

All classes of image i are pasted together, and j is drawn evenly for each i by itself. One more forward pass sees the mixed
images. L_seg^mix compares the decoder with the mixed M_ep, and L_rec^mix the CAM with the mixed M_rs, with the classes of both
images (Eq. 18 and 20). What the paper leaves open:
* labels are on the decoder's grid, enlarged by `upsampling`, and the mask of the image is enlarged by nearest neighbour;
* mixed images pass the network by themselves, because the losses are sums over two passes: batch norms see them apart;
* without the network's recursion there is nothing to mix, so EPM waits for it.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional

from imagesets.item import VOID
from maps.grids import resize
from methods import recurseed
from methods.recurseed_network import RecurSeed
from methods.recurseed_targets import Making, of_keys, recursion_loss, refined
from methods.seam import own_classes
from refiners import pamr
from refiners.certain_filter import certain
from refiners.edge_predict import predicted
from segmentation.losses import cross_entropy
from training.mixing import mixing, of_others, pasted
from training.stage import Context, Losses, Outputs, Training
from training.transfer import Batch


class Targets(NamedTuple):
    """Images [B,3,H,W], labels int64 [B,h,w] and M_rs [B,K,h,w] to learn from, and the images' classes [B,K] in {0,1}."""

    images: torch.Tensor
    labels: torch.Tensor
    recursion: torch.Tensor
    classes: torch.Tensor


def foreground(labels: torch.Tensor) -> torch.Tensor:
    """G, where labels [B,h,w] are a class: not background and not unknown."""
    return (labels != 0) & (labels != VOID)


def mixed(own: Targets, order: torch.Tensor, mask: torch.Tensor) -> Targets:
    """Each image inside the mask [B,h,w] bool, and the image at its place in `order` [B] outside, on every grid."""

    def mix(planes: torch.Tensor) -> torch.Tensor:
        return pasted(planes, planes[order], at(mask, planes.shape[-2:]))

    images, labels, recursion, classes = own
    return Targets(mix(images), mix(labels), mix(recursion), torch.maximum(classes, classes[order]))


def at(planes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Labels or a mask [B,h,w] on a grid of `size`, by nearest neighbour."""
    if tuple(planes.shape[1:]) == tuple(size):
        return planes
    return functional.interpolate(planes[:, None].float(), size=tuple(size), mode="nearest")[:, 0].to(planes.dtype)


class Learning(NamedTuple):
    """How a network learns from mixed images: by its decoder (`seg`), its CAM (`rec`), or both."""

    network: RecurSeed
    losses: Sequence[str]
    recursion: tuple[str, str]  # as in `recurseed.RecurSeedObjective`

    @classmethod
    def of(cls, training: Training, context: Context, losses: Sequence[str]) -> "Learning":
        """As the settings of the training say."""
        assert isinstance(training.network, RecurSeed)  # no other network provides recursion
        return cls(training.network, losses, (context.settings.recursion, context.settings.recursion_over))

    def __call__(self, targets: Targets) -> Losses:
        """`mixed_segmentation` and `mixed_recursion` of one forward pass."""
        scores, decoded, _ = self.network.both(targets.images)
        losses = {}
        if "seg" in self.losses:
            losses["mixed_segmentation"] = cross_entropy(decoded, at(targets.labels, decoded.shape[-2:]))
        if "rec" in self.losses:
            losses["mixed_recursion"] = recursion_loss(scores, targets.recursion, targets.classes, *self.recursion)
        return losses


class Predicting(NamedTuple):
    """How labels are predicted of a decoder's logits."""

    making: Making
    relabel: bool  # whether EdgePredict relabels them
    source: str  # of its edges
    upsampling: int

    @torch.no_grad()
    def __call__(self, decoded: torch.Tensor, batch: Batch) -> torch.Tensor:
        """M_ep, int64 [B,h,w], of logits [B,1+K,h,w]: 0, class index + 1 of an image's own classes, or 255."""
        images, labels = batch["image"], batch["labels"]
        keys, shown = own_classes(labels)
        maps, windows = refined(of_keys(decoded.softmax(dim=1)[:, 1:], keys), shown, images, batch["valid"], self.making)
        grid, windows = [side * self.upsampling for side in decoded.shape[-2:]], windows * self.upsampling
        maps = resize(maps, grid)
        places = certain(maps, self.making.foreground, self.making.background).long()
        if self.making.void_padding:
            places = places.masked_fill(pamr.outside(windows, grid), VOID)
        if self.relabel:
            places = predicted(maps, places, self.source, windows)
        return named(places, keys)


def named(places: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Labels [B,h,w] of places among an image's classes `keys` [B,n] (0, place + 1, 255) as labels of all classes."""
    table = functional.pad(keys + 1, (1, 0))
    codes = table.gather(1, places.clamp(max=keys.shape[1]).flatten(1)).view_as(places)
    return torch.where(places == VOID, VOID, codes)


def mix(batch: Batch, outputs: Outputs, predicting: Predicting, learning: Learning) -> Losses:
    """The losses of the images of a batch, each with the predicted objects of one on another."""
    if "recursion" not in outputs:
        return {}
    labels = predicting(outputs["decoded"], batch)
    own = Targets(batch["image"], labels, outputs["recursion"], batch["labels"])
    return learning(mixed(own, of_others(len(labels)), foreground(labels)))


def adding(training: Training, context: Context) -> Training:
    """The mixing `epm`."""
    settings = context.settings.epm
    own = Predicting(recurseed.making(context.settings), settings.edge_predict, settings.edges, settings.upsampling)
    learning = Learning.of(training, context, settings.losses)
    return mixing(training, context, settings, partial(mix, predicting=own, learning=learning))
