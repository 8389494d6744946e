"""Label maps from a trained segmenter: several scales, with or without mirror images, fused by a published rule, then a CRF."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from imagesets.item import Item
from imagesets.views import Loaded, images, load
from maps.grids import resize
from refiners import crf
from segmentation.multi_scale import at_scales, largest
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
        scores = probabilities(segment, scaled, settings.test_scales, settings.mirror, settings.fusion)
        return [
            [own] for own in (scores if with_crf else scores.max(1).indices.to(torch.uint8))
        ]  # argmax takes three times as long

    finish = CRF(crf.Parameters(**settings.crf)) if with_crf else _label
    # pydensecrf holds Python's lock for seconds
    return PerImage(lambda item: load(item, [1.0], device), compute, finish, processes=with_crf)


@dataclass(frozen=True)
class CRF:
    """Makes the label map of an image from its class probabilities [L,H,W] by the dense CRF."""

    parameters: crf.Parameters

    def __call__(self, item: Item, rgb: np.ndarray, scores: Sequence[np.ndarray]) -> Record:
        return {"label": crf.soft(rgb, scores[0], self.parameters).argmax(0).astype(np.uint8)}


def _label(item: Item, rgb: np.ndarray, labels: Sequence[np.ndarray]) -> Record:
    return {"label": labels[0]}


@torch.inference_mode()
def probabilities(segment: Segment, images: torch.Tensor, scales: Sequence[float], mirror: bool, fusion: str) -> torch.Tensor:
    """Class probabilities [B,L,H,W] of normalised images [B,3,H,W], fused over scales and, with `mirror`, mirror images."""
    batch = torch.cat([images, images.flip(-1)]) if mirror else images
    views = []
    for logits in at_scales(segment, batch, scales):
        views.append(logits[: len(images)])
        if mirror:
            views.append(logits[len(images) :].flip(-1))
    return fuse(views, images.shape[-2:], fusion)


def fuse(views: Sequence[torch.Tensor], size: Sequence[int], fusion: str) -> torch.Tensor:
    """Probabilities [B,L,*size] from the logits [B,L,h_v,w_v] of several views, mirrored ones turned back.

    max_logits: maximum on the grid of the first view, then enlarged (DeepLabV2, kazuto1011/deeplab-pytorch);
    mean_logits: mean at full size (SEAM's segmentation code); mean_softmax: mean of probabilities (mmsegmentation).
    """
    if fusion == "max_logits":
        return resize(largest(views), size).softmax(1)
    full = [resize(view, size) for view in views]
    if fusion == "mean_logits":
        return torch.stack(full).mean(0).softmax(1)
    if fusion == "mean_softmax":
        return torch.stack([logits.softmax(1) for logits in full]).mean(0)
    raise ValueError(f"there is no fusion rule {fusion!r}")
