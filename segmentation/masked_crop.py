"""Training examples of segmenters: a crop of an image and of its pseudo mask, drawn as a public code draws it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from imagesets.colour import RULES, Recolour
from imagesets.crops import Crop, Size
from imagesets.errors import WrongInput
from imagesets.item import VOID, Item
from imagesets.rescaling import Between, Fitted, OneOf, Rescale
from training.stage import Context, Records

REDRAWS = 10  # crops after the first, at most, until one shows several classes (mmsegmentation)


@dataclass(frozen=True)
class MaskedCrop:
    """Makes one training example: image float32 [3,crop,crop] and label uint8 [crop,crop] in 0..`labels`-1 or void.

    The image gets other colours (`recolour`) and another size (`rescale`). With `recolours_crop` only the crop gets the colours.
    If the image is smaller than the crop, it lies in the corner or, unless `top_left`, anywhere. Mirroring moves the image in the
    crop only with `mirrors_canvas`. With `largest_class` below 1, a crop is drawn again, up to ten times, until it shows several
    classes and none has that share of the pixels that are not void.
    """

    masks: Records
    labels: int
    crop: int
    rescale: Rescale
    recolour: Recolour | None = None
    recolours_crop: bool = False
    top_left: bool = False
    mirrors_canvas: bool = False
    largest_class: float = 1.0

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rgb, label = item.rgb(), self.masks[item.id]["label"]
        check_mask(label, rgb.shape[:2], self.labels, item.id)
        if self.recolour is not None and not self.recolours_crop:
            rgb = self.recolour(rgb, rng)
        image, label = self.rescale(rgb, label, rng)
        crop, label = self._drawn(label, rng)
        image = crop.seen(image)
        if self.recolour is not None and self.recolours_crop:
            image = self.recolour(np.ascontiguousarray(image), rng)
        return {"image": torch.from_numpy(crop.normalised(image)), "label": torch.from_numpy(label)}

    def _drawn(self, label: np.ndarray, rng: np.random.Generator) -> tuple[Crop, np.ndarray]:
        """A crop, and what it shows of the label map."""
        for _ in range(1 + REDRAWS):
            crop = Crop.drawn(label.shape, self.crop, rng, self.top_left, self.mirrors_canvas)
            seen = crop.label(label)
            if self.largest_class == 1 or is_varied(seen, self.largest_class):
                break
        return crop, seen


def scaled_crop(context: Context) -> MaskedCrop:
    """The examples of a training as SEAM's segmenter has them, on the pseudo masks that its context holds."""
    settings = context.settings
    return _crop(context, Between(settings.scale_range), RULES[settings.colour])


def fitted_crop(context: Context) -> MaskedCrop:
    """The examples of a training as mmsegmentation has them."""
    settings = context.settings
    rescale, recolour = Fitted(settings.fit, settings.scale_range), RULES[settings.colour]
    return _crop(context, rescale, recolour, recolours_crop=True, top_left=True, largest_class=settings.largest_class)


def scaled_top_left_crop(context: Context) -> MaskedCrop:
    """The examples of a training as deeplab-pytorch has them."""
    return _crop(context, OneOf(context.settings.scales), None, top_left=True, mirrors_canvas=True)


def _crop(context: Context, rescale: Rescale, recolour: Recolour | None, **how: Any) -> MaskedCrop:
    return MaskedCrop(context.inputs["masks"], len(context.classes) + 1, context.settings.crop, rescale, recolour, **how)


def is_varied(label: np.ndarray, most: float) -> bool:
    """Whether several labels occur and none has a share of `most` or more of the pixels that are not void."""
    counts = np.bincount(label[label != VOID])
    return bool(np.count_nonzero(counts) > 1 and counts.max() < most * counts.sum())


def check_mask(label: np.ndarray, size: Size, labels: int, name: str) -> None:
    """Raise WrongInput if a mask has another size than its image, or a label that is neither 0..labels-1 nor void."""
    if label.shape != size:
        raise WrongInput(f"the mask of image {name} has the size {label.shape}, its image {size}; sizes must be equal")
    highest = int(label.max(initial=0, where=label != VOID))
    if highest >= labels:
        raise WrongInput(f"the mask of image {name} holds label {highest}; there are {labels} labels, 0 to {labels - 1}")
