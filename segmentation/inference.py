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
from training.stage import Context, PerImage, Record, Settings

Segment = Callable[[torch.Tensor], torch.Tensor]  # normalised images [B,3,H,W] to logits [B,L,h,w], background first


def predictions(context: Context) -> PerImage:
    """The segmenter's label map of each image, {"label": uint8 [H,W]}."""
    return _predictions(context, context.inputs["segmenter"])


def own_predictions(context: Context) -> PerImage:
    """The label map of each image from a network's own decoder, `decode(images)`."""
    return _predictions(context, context.inputs["network"].decode)


def _predictions(context: Context, segment: Segment) -> PerImage:
    settings, device = context.settings, context.device
    with_crf, fused = settings.crf != "none", Fused.of(settings, segment)

    @torch.inference_mode()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        (scaled,) = images(batch, device)
        scores = fused(scaled, scaled.shape[-2:])
        # argmax takes three times as long as max
        found = scores if with_crf else scores.max(1).indices.to(torch.uint8)
        return [[own] for own in found]

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
        found = candidates(scores[0].max(axis=(1, 2)), self.minimum)
        chosen = crf.soft(rgb, scores[0][found], self.parameters).argmax(0)
        return {"label": np.flatnonzero(found)[chosen].astype(np.uint8)}


def candidates(highest: np.ndarray, minimum: float) -> np.ndarray:
    """Which classes the CRF decides between, by the highest score [L] of each: bool [L]. Without one at `minimum`, the best."""
    return highest >= min(minimum, highest.max())


def _label(item: Item, rgb: np.ndarray, labels: Sequence[np.ndarray]) -> Record:
    return {"label": labels[0]}


@dataclass(frozen=True)
class Fused:
    """A network at all test scales, with its mirror images, fused by a rule of `segmentation.fusion`.

    At scale 1 it sees an image at the largest size within `fit` (long, short side), or at its own for (0, 0).
    """

    segment: Segment
    scales: Sequence[float]
    mirror: bool
    fusion: str
    fit: Sequence[int] = (0, 0)

    @classmethod
    def of(cls, settings: Settings, segment: Segment) -> "Fused":
        """As the settings of a stage that segments say."""
        return cls(segment, settings.test_scales, settings.mirror, settings.fusion, settings.test_fit or (0, 0))

    def __call__(self, images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Normalised images [B,3,h,w], windows of images of `size`, to scores [B,L,h,w]."""
        factor = fit_factor(size, self.fit)
        return probabilities(self.segment, images, [scale * factor for scale in self.scales], self.mirror, self.fusion)


@torch.inference_mode()
def probabilities(segment: Segment, images: torch.Tensor, scales: Sequence[float], mirror: bool, fusion: str) -> torch.Tensor:
    """Class scores [B,L,H,W] of normalised images [B,3,H,W], fused over scales and, with `mirror`, mirror images.

    `fusion` is one of `RULES`.
    """
    rule, views = RULES[fusion], list[View]()
    batch = torch.cat([images, images.flip(-1)]) if mirror else images
    for scale in scales:
        scaled = rule.resizing(batch, scale)
        plain, *mirrored = segment(scaled).split(len(images))
        views += [View(logits, scaled.shape[-2:]) for logits in (plain, *(logits.flip(-1) for logits in mirrored))]
    return rule.fuse(views, images.shape[-2:])
