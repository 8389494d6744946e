"""The class scores behind a label map: what `inference` and `single_stage` take the highest of, for those who want to see them.

A stage's recipe names its function here (`class_scores`). It makes a `Scorer` of the stage's context; the highest class of the
scores, after the CRF if the stage has one, is the label that the stage predicts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from imagesets.normalising import normalised
from maps.normalising import with_own_background
from maps.reading import unit_maximum
from refiners import crf
from segmentation.inference import Fused, Segment, candidates
from segmentation.single_stage import both_probabilities, found
from training.stage import Context, Settings

# normalised images [B,3,h,w], and the size (H,W) of the images that they are windows of, to scores [B,L,h,w] in 0..1
Compute = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]


@dataclass(frozen=True)
class Scorer:
    """The steps from an image to its class scores: a network at all test scales, then the dense CRF if there is one.

    The CRF decides between the classes whose highest score [L] `may_occur` lets through; the others get the score 0. At test
    scale 1 the network sees an image at the largest size within `fit` (long, short side), or at its own for (0, 0).
    """

    compute: Compute
    device: torch.device
    fit: Sequence[int]
    crf: crf.Parameters | None
    may_occur: Callable[[np.ndarray], np.ndarray]

    @torch.inference_mode()
    def __call__(self, rgb: np.ndarray, size: Sequence[int] | None = None) -> np.ndarray:
        """An image uint8 [H,W,3], or a window of an image of `size`, to scores float32 [L,H,W]."""
        image = normalised(torch.from_numpy(np.array(rgb)).to(self.device))
        scores = self.compute(image[None], size or rgb.shape[:2])
        return self.after_crf(rgb, scores[0].cpu().numpy())

    def after_crf(self, rgb: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Scores [L,H,W] of the image uint8 [H,W,3] after the CRF: marginals, which sum to one."""
        if self.crf is None:
            return scores
        found = self.may_occur(scores.max(axis=(1, 2)))
        refined = np.zeros_like(scores)
        refined[found] = crf.soft(rgb, scores[found], self.crf) if found.sum() > 1 else 1
        return refined


def of_segmenter(context: Context) -> Scorer:
    """The scores behind `inference.predictions`."""
    return _fused(context, context.inputs["segmenter"])


def of_decoder(context: Context) -> Scorer:
    """The scores behind `inference.own_predictions`."""
    return _fused(context, context.inputs["network"].decode)


def of_single_stage(context: Context) -> Scorer:
    """The scores behind `single_stage.predictions`: classes that the network's classifier does not find have the score 0.

    Without a CRF they do not sum to one.
    """
    settings, network = context.settings, context.inputs["network"]

    def compute(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        masks, classes = both_probabilities(network, images, settings.test_scales, settings.mirror, settings.enlarging)
        seeds = unit_maximum(masks[:, 1:]) * found(classes, settings.class_minimum)[..., None, None]
        return with_own_background(seeds, settings.background_power)

    # background may always occur
    return Scorer(compute, context.device, (0, 0), _crf(settings), lambda highest: (highest > 0) | (np.arange(len(highest)) == 0))


def _fused(context: Context, segment: Segment) -> Scorer:
    settings, parameters = context.settings, _crf(context.settings)
    minimum = (settings.crf_minimum or 0.0) if parameters else 0.0
    compute = Fused.of(settings, segment)
    return Scorer(compute, context.device, compute.fit, parameters, partial(candidates, minimum=minimum))


def _crf(settings: Settings) -> crf.Parameters | None:
    return crf.Parameters(**settings.crf) if settings.crf != "none" else None
