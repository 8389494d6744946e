"""Label maps from a trained segmenter: several scales, with or without mirror images, fused by a published rule, then a CRF."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from imagesets import transforms
from imagesets.item import Item
from maps.grids import resize
from refiners import crf
from segmentation.multi_scale import at_scales, largest
from training.stage import Context

Segment = Callable[[torch.Tensor], torch.Tensor]  # normalised images [B,3,H,W] to logits [B,L,h,w], background first


def predictions(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The segmenter's label map of each image, {"label": uint8 [H,W]}."""
    return _predictions(context, context.inputs["segmenter"])


def own_predictions(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The label map of each image from a network's own decoder, `decode(images)`."""
    return _predictions(context, context.inputs["network"].decode)


def _predictions(context: Context, segment: Segment) -> Callable[[Item], dict[str, np.ndarray]]:
    settings = context.settings

    def one(item: Item) -> dict[str, np.ndarray]:
        rgb = item.rgb()
        image = torch.from_numpy(transforms.normalise(rgb)).to(context.device)
        scores = probabilities(segment, image, settings.test_scales, settings.mirror, settings.fusion).cpu().numpy()
        if settings.crf != "none":
            scores = crf.soft(rgb, scores, crf.Parameters(**settings.crf))
        return {"label": scores.argmax(0).astype(np.uint8)}

    return one


@torch.inference_mode()
def probabilities(segment: Segment, image: torch.Tensor, scales: Sequence[float], mirror: bool, fusion: str) -> torch.Tensor:
    """Class probabilities float32 [L,H,W] of a normalised image [3,H,W], fused over scales and, with `mirror`, mirror images."""
    batch = torch.stack([image, image.flip(-1)]) if mirror else image[None]
    views = []
    for logits in at_scales(segment, batch, scales):
        views.append(logits[:1])
        if mirror:
            views.append(logits[1:].flip(-1))
    return fuse(views, image.shape[-2:], fusion)[0]


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
