"""PMM's pretended under-fitting: a segmenter that fits its masks well already learns less from the pixels that it fits worst.

Li et al., Pseudo-mask Matters in Weakly-supervised Semantic Segmentation, ICCV 2021; as in the public code (Eli-YiLi/WSSS_MMSeg).
The masks are pseudo masks, so these pixels may be wrong there.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from imagesets.item import VOID
from segmentation.learning import MaskObjective
from segmentation.segmenter import Segmenter

FITTED = 0.5  # beta of the code: masks count as fitted if the mean loss is below this
BOUND = 0.5  # k of the code
LEAST = 1e-9  # keeps the gradient of a power finite

# what becomes of the losses of pixels, any shape
RULES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "clamp": lambda losses: losses.clamp(max=BOUND),
    "pow": lambda losses: (losses + LEAST) ** BOUND,
    "ignore": lambda losses: losses * (losses <= BOUND),
}


def under_fitted_cross_entropy(logits: torch.Tensor, label: torch.Tensor, rule: str) -> torch.Tensor:
    """The mean cross entropy over all pixels of a batch; by one of `RULES` if that mean is below 0.5.

    logits [B,L,h,w]; label integer [B,h,w], 255 for void. Void pixels are 0 and count in both means.
    """
    losses = functional.cross_entropy(logits, label.long(), ignore_index=VOID, reduction="none")
    mean = losses.mean()
    return torch.where(mean < FITTED, RULES[rule](losses).mean(), mean)  # chosen on the device: a GPU need not wait


class UnderFittedObjective(MaskObjective):
    """A `MaskObjective` whose decoders, each for itself, have the `under_fitted_cross_entropy` of a rule."""

    def __init__(self, network: Segmenter, auxiliary: float, rule: str) -> None:
        super().__init__(network, auxiliary=auxiliary)
        self.rule = rule

    def loss(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """As `under_fitted_cross_entropy`."""
        return under_fitted_cross_entropy(logits, label, self.rule)
