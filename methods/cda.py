"""CDA: objects are pasted on images that do not show their class, so that a class is learnt without its usual surroundings.

Su, Sun, Lin and Wu, Context Decoupling Augmentation for Weakly Supervised Semantic Segmentation, ICCV 2021. RSEPM (Jo, Yu and
Kim, arXiv 2204.06754, Table 4) compares it with its own mixing. As in the public code (suyukun666/CDA):
* objects are cut out of pseudo masks of images that show one class, which covers 10 to 70 % of the image (`areas`);
* an object is turned by up to 90 degrees (a variant of the code scales it by 0.8 to 1.2 instead), shrunk to at most 0.7 of the
  height and width of the image that it is pasted on, and pasted at a random place; its label comes to those of the image;
* half of what is learnt from are images as they are: the loss of the others comes beside that of the network.

There are two sources of objects:
* `bank`, a folder of label maps of the training images, such as pseudo masks of an earlier run. It may be of any network. An
  object is read with every image, in the processes that load images;
* none (`bank` = none), for networks with a decoder: objects are what the decoder finds in the other images of the batch, as RSEPM
  says ("predicted masks"). An image of several classes gives an object of each, because a batch has few images.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from imagesets.normalising import normalised
from methods.cda_bank import WithObject, bank_of
from methods.cda_objects import Pose, tight
from methods.recurseed_targets import where_valid
from training.mixing import mixed_classification, mixing, pasted
from training.stage import Context, Losses, Outputs, Training
from training.transfer import Batch


def mix_with_bank(batch: Batch, outputs: Outputs, network: nn.Module) -> Losses:
    """The loss of the images of a batch, each with its object of the bank."""
    planes, mask = batch["object"].split([3, 1], dim=1)
    images = pasted(normalised(planes.movedim(1, -1)), batch["image"], mask[:, 0] > 0)
    added = functional.one_hot(batch["object_class"] + 1, 1 + batch["labels"].shape[1])[:, 1:]
    return mixed_classification(network, images, torch.maximum(batch["labels"], added.to(batch["labels"])))


def found_objects(decoded: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """What a decoder finds, int64 [B,h,w]: 0, or class index + 1 of the image's own classes.

    `decoded` are logits [B,1+K,h,w], background first, `labels` [B,K] in {0,1}; nothing is found where `valid` [B,h,w] is false.
    """
    absent = functional.pad(labels, (1, 0), value=1)[:, :, None, None] == 0
    return decoded.detach().masked_fill(absent, -torch.inf).argmax(dim=1) * valid


def usable(found: torch.Tensor, valid: torch.Tensor, classes: int, areas: Sequence[float]) -> torch.Tensor:
    """Which classes' objects in `found` [B,h,w] cover a share within `areas` of what is `valid` [B,h,w], bool [B,K]."""
    pixels = functional.one_hot(found.flatten(1), 1 + classes).sum(dim=1)[:, 1:]
    shares = pixels / valid.flatten(1).sum(dim=1, keepdim=True).clamp(min=1)
    return (shares >= areas[0]) & (shares <= areas[1])


def mix_online(batch: Batch, outputs: Outputs, network: nn.Module, pose: Pose, areas: Sequence[float]) -> Losses:
    """The loss of the images of a batch, each with an object that the decoder finds in another; none before its recursion."""
    if "recursion" not in outputs:
        return {}
    images, labels = batch["image"].clone(), batch["labels"].clone()
    decoded = outputs["decoded"]
    valid = where_valid(batch["valid"], images.shape[2:], decoded.shape[2:])
    found = found_objects(decoded, labels, valid)
    objects, shown = usable(found, valid, labels.shape[1], areas).cpu(), batch["labels"].cpu() > 0
    for place in range(len(images)):
        others = (objects & ~shown[place]).nonzero()  # objects are of classes that their images show, so these are of others
        if not len(others):
            continue
        source, index = others[int(torch.randint(len(others), ()))].tolist()
        region = functional.interpolate((found[source] == index + 1)[None, None].float(), size=images.shape[2:], mode="nearest")
        cut, label = tight(batch["image"][source], region[0, 0])
        image, mask = pose(cut, label, images.shape[2:], torch.rand(4).tolist())
        images[place] = torch.where(mask, image, images[place])
        labels[place, index] = 1
    return mixed_classification(network, images, labels)


def adding(training: Training, context: Context) -> Training:
    """The mixing `cda`."""
    settings, network = context.settings.cda, training.network
    pose = Pose(settings.angle, settings.scale_range)
    if settings.bank == "none":
        return mixing(training, context, settings, partial(mix_online, network=network, pose=pose, areas=settings.areas))
    sample = WithObject(training.sample, bank_of(Path(settings.bank), context.items, settings.areas), pose)
    return mixing(replace(training, sample=sample), context, settings, partial(mix_with_bank, network=network))
