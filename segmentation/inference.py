"""Label maps from a trained segmenter: several scales, with or without mirror images, fused by a published rule, then a CRF."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from imagesets.item import Item
from imagesets.rescaling import fit_factor
from imagesets.views import Loaded, images, load
from refiners import crf
from segmentation.fusion import RULES, View
from training.stage import Context, PerImage, Record

Segment = Callable[[torch.Tensor], torch.Tensor]  # normalised images [B,3,H,W] to logits [B,L,h,w], background first


def predictions(context: Context) -> PerImage:
    """The segmenter's label map of each image, {"label": uint8 [H,W]}."""
    return _predictions(context, context.inputs["segmenter"])


def own_predictions(context: Context) -> PerImage:
    """The label map of each image from a network's own decoder, `decode(images)`."""
    return _predictions(context, context.inputs["network"].decode)


def _predictions(context: Context, segment: Segment) -> PerImage:
    settings, device = context.settings, context.device
    with_crf = settings.crf != "none"

    @torch.inference_mode()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        (scaled,) = images(batch, device)
        scores = probabilities(
            segment, scaled, settings.test_scales, settings.mirror, settings.fusion, settings.test_fit or (0, 0)
        )
        return [
            [own] for own in (scores if with_crf else scores.max(1).indices.to(torch.uint8))
        ]  # argmax takes three times as long

    finish = CRF(crf.Parameters(**settings.crf), settings.crf_minimum or 0.0) if with_crf else _label
    # pydensecrf holds Python's lock for seconds
    return PerImage(lambda item: load(item, [1.0], device), compute, finish, processes=with_crf)


@dataclass(frozen=True)
class CRF:
    """Makes the label map of an image from its class scores [L,H,W] by the dense CRF.

    The CRF decides between the classes whose score reaches `minimum` somewhere in the image (RecurSeed: 0.05).
    """

    parameters: crf.Parameters
    minimum: float = 0.0

    def __call__(self, item: Item, rgb: np.ndarray, scores: Sequence[np.ndarray]) -> Record:
        highest = scores[0].max(axis=(1, 2))
        candidates = highest >= min(self.minimum, highest.max())
        chosen = crf.soft(rgb, scores[0][candidates], self.parameters).argmax(0)
        return {"label": np.flatnonzero(candidates)[chosen].astype(np.uint8)}


def _label(item: Item, rgb: np.ndarray, labels: Sequence[np.ndarray]) -> Record:
    return {"label": labels[0]}


@torch.inference_mode()
def probabilities(
    segment: Segment, images: torch.Tensor, scales: Sequence[float], mirror: bool, fusion: str, fit: Sequence[int] = (0, 0)
) -> torch.Tensor:
    """Class scores [B,L,H,W] of normalised images [B,3,H,W], fused over scales and, with `mirror`, mirror images.

    At scale 1, images have the largest size within `fit` (long, short side); [0, 0] is their own. `fusion` is one of `RULES`.
    """
    rule, views = RULES[fusion], list[View]()
    batch = torch.cat([images, images.flip(-1)]) if mirror else images
    for scale in scales:
        scaled = rule.resizing(batch, scale * fit_factor(images.shape[-2:], fit))
        plain, *mirrored = segment(scaled).split(len(images))
        views += [View(logits, scaled.shape[-2:]) for logits in (plain, *(logits.flip(-1) for logits in mirrored))]
    return rule.fuse(views, images.shape[-2:])
