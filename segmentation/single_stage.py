"""Label maps of a network's own decoder as RecurSeed makes them: its classifier says which classes may occur.

Jo, Yu and Kim, RecurSeed and EdgePredictMix, arXiv 2204.06754; its text says little, so we follow the public code:
* both heads see every test scale and its mirror image; probabilities are averaged over these views;
* classes whose probability reaches `minimum` are kept; without one the whole image is background;
* the decoder's map of each class that is kept is divided by its maximum, the decoder's background is dropped, and the score of
  background is (1 - the highest of the maps) to a power;
* the dense CRF decides between background and the classes that are kept.
The code's script resizes probabilities by nearest neighbour too; ours are resized bilinearly, as its functions do by default.
The code turns the normalised image back into grey levels for the CRF, some of them one too low; ours are the image's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from imagesets.item import Item
from imagesets.views import Loaded, images, load
from maps.grids import resize
from maps.labelling import to_labels
from maps.normalising import with_own_background
from maps.reading import unit_maximum
from refiners import crf
from segmentation.fusion import RULES
from training.stage import Context, PerImage, Record


def found(scores: torch.Tensor, minimum: float) -> torch.Tensor:
    """Whether the probability [...,K] of each class reaches `minimum`, compared in the precision of the scores: bool [...,K]."""
    return scores >= torch.tensor(minimum, dtype=scores.dtype)


def seeds(masks: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The decoder's probabilities [1+K,H,W] of `classes` [n], each divided by its maximum: [n,H,W]."""
    return unit_maximum(masks[1:][classes])


def label_map(
    rgb: np.ndarray, seeds: np.ndarray, classes: np.ndarray, power: float, parameters: crf.Parameters | None
) -> np.ndarray:
    """Seeds [n,H,W] of `classes` [n] on the image uint8 [H,W,3] to labels uint8 [H,W]; without `parameters` there is no CRF."""
    if not len(classes):
        return np.zeros(rgb.shape[:2], np.uint8)
    scores = with_own_background(torch.from_numpy(seeds), power).numpy()
    if parameters:
        scores = crf.soft(rgb, scores, parameters)
    return to_labels(scores.argmax(axis=0), classes)


def predictions(context: Context) -> PerImage:
    """The label map of each image, {"label": uint8 [H,W]}. The image's own labels play no part."""
    settings, device = context.settings, context.device
    with_crf = settings.crf != "none"

    @torch.inference_mode()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        (scaled,) = images(batch, device)
        masks, scores = both_probabilities(
            context.inputs["network"], scaled, settings.test_scales, settings.mirror, settings.enlarging
        )
        keys = [own.nonzero()[:, 0] for own in found(scores, settings.class_minimum)]
        return [[seeds(mask, classes), classes] for mask, classes in zip(masks, keys, strict=True)]

    finish = Finish(settings.background_power, crf.Parameters(**settings.crf) if with_crf else None)
    return PerImage(lambda item: load(item, [1.0], device), compute, finish, processes=with_crf)


@dataclass(frozen=True)
class Finish:
    """`label_map` of one image, picklable."""

    power: float
    parameters: crf.Parameters | None

    def __call__(self, item: Item, rgb: np.ndarray, arrays: Sequence[np.ndarray]) -> Record:
        seeds, classes = arrays
        return {"label": label_map(rgb, seeds, classes, self.power, self.parameters)}


def both_probabilities(
    network: Any, images: torch.Tensor, scales: Sequence[float], mirror: bool, enlarging: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images [B,3,H,W] to the decoder's probabilities [B,1+K,H,W] and those of the classifier [B,K].

    Both are means over scales and, with `mirror`, mirror images. Logits are enlarged to the size of their view by `enlarging`
    ("nearest" or "bilinear"), and probabilities from there to the size of the images, bilinearly.
    """
    batch, both = (torch.cat([images, images.flip(-1)]) if mirror else images), []
    for scale in scales:
        view = RULES["mean_view_softmax"].resizing(batch, scale)
        cams, decoded, _ = network.both(view)
        enlarged = functional.interpolate(decoded, size=view.shape[-2:], mode=enlarging)
        plain, *mirrored = resize(enlarged.softmax(1), images.shape[-2:]).split(len(images))
        both.append((plain + mirrored[0].flip(-1) if mirror else plain, cams.mean(dim=(2, 3)).sigmoid()))
    masks, classes = zip(*both, strict=True)
    views = len(scales) * (1 + mirror)
    return sum(masks) / views, torch.cat(classes).unflatten(0, (-1, len(images))).mean(dim=0)
