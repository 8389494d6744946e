"""AdvCAM: maps summed along an anti-adversarial climb of the image, which makes less discriminative regions respond.

Lee, Kim and Yoon, Anti-Adversarially Manipulated Attributions for Weakly and Semi-Supervised Semantic Segmentation, CVPR
2021. We did not have the paper and follow the public code (ReCAM Eq. 10 states the same climb). Nothing is trained.
An image climbs once per scale and class. Each climb starts from the clean pair X of image and mirror:
    X <- clamp(X + step * g / max|g|, min X, max X),  g = dL/dX,
    L = y_c - sum of the other y_j - regulariser * sum over positions of M |R - R^0|,
y is the mean of the rectified logit map, summed over the pair. R is the attribution map before the step, R^0 is the first R,
and M = [R > threshold * max R] is a constant. The class's map is the sum of all R.

As in the code:
* R is the rectified logit map of the class, times each view's share of the positive positions (a "positive average
  pooling" of the gradient whose denominator is one count over the pair); the share is a constant too;
* the gradient is divided by its largest entry over the pair, and the clamp's bounds are those of the current X;
* at scale 0.5 an image climbs for half as many iterations (5 of 6 to 10, all of fewer). The code gives that scale the weight 2
  and never resets it: all scales have it, and normalising removes it.
Unlike the code:
* we compute R from the logit map, without a gradient: the gradient that the code takes for R is the classifier's weights times
  an indicator. This saves one of two backward passes per iteration, all of the last map, and those through the weights;
* the classes of an image climb side by side in one batch, which does not change their climbs. Scales follow one another: their
  images have different sizes.
"""

from collections.abc import Callable, Sequence

import torch

from imagesets.views import Loaded, mirror_sum, pairs
from maps.extraction import at_scales, linear_maps
from training.stage import Context, PerImage

Features = Callable[[torch.Tensor], torch.Tensor]  # normalised images [B,3,H,W] to features [B,C,h,w]

TINY = 1e-12  # added to the gradient's largest entry (AdvCAM code)


def attributions(logit_maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Attribution maps R [n,h,w] of n classes: `logit_maps` [n,2,h,w] of image and mirror, the classes' `weights` [n,C]."""
    positive = (logit_maps > 0).sum(dim=(2, 3))
    entries = positive.sum(dim=1) * (weights > 0).sum(dim=1)  # positive entries of the gradient at the features
    shares = positive / entries.clamp(min=1)[:, None]
    return mirror_sum(shares[:, :, None, None] * logit_maps.relu(), dim=1)


def objectives(
    logit_maps: torch.Tensor, keys: torch.Tensor, regions: torch.Tensor, first: torch.Tensor, regulariser: float, threshold: float
) -> torch.Tensor:
    """L [n] of n climbs: all logit maps [n,2,K,h,w], the climbs' classes [n], R [n,h,w] of this iteration and of the first."""
    scores = logit_maps.relu().mean(dim=(3, 4)).sum(dim=1)
    wanted = 2 * scores.gather(1, keys[:, None])[:, 0] - scores.sum(dim=1)
    mask = regions > threshold * regions.amax(dim=(1, 2), keepdim=True)
    return wanted - regulariser * (mask * (regions - first).abs()).sum(dim=(1, 2))


def climbed(images: torch.Tensor, gradient: torch.Tensor, step: float) -> torch.Tensor:
    """Pairs [n,2,3,H,W] one step further up their gradient, within the range of values that each pair has."""
    largest = gradient.abs().amax(dim=(1, 2, 3, 4), keepdim=True) + TINY
    low, high = (bound(images, dim=(1, 2, 3, 4), keepdim=True) for bound in (torch.amin, torch.amax))
    return (images + step * gradient / largest).clamp(low, high)


def climb(
    features: Features,
    weights: torch.Tensor,
    pair: torch.Tensor,
    keys: Sequence[int],
    iterations: int,
    step: float = 0.08,
    regulariser: float = 7.0,
    threshold: float = 0.5,
) -> torch.Tensor:
    """Attribution maps [n,h,w] of the classes `keys`, summed over the iterations of their climbs from one `pair` [2,3,H,W].

    `weights` [K,C] turn features into logit maps; no parameter of the network may require a gradient.
    """
    own = torch.as_tensor(keys, device=pair.device)
    climbs = torch.arange(len(own), device=pair.device)
    images = pair.expand(len(own), *pair.shape)
    first = total = torch.zeros(())
    for iteration in range(iterations):
        last = iteration + 1 == iterations
        with torch.set_grad_enabled(not last):
            images = images.detach().requires_grad_(not last)
            found = features(images.flatten(0, 1)).unflatten(0, (len(own), 2))
            logit_maps = torch.einsum("kc,npchw->npkhw", weights, found)
            regions = attributions(logit_maps[climbs, :, own], weights[own])
            first = regions.detach() if iteration == 0 else first
            total = total + regions.detach()
            if not last:
                objective = objectives(logit_maps, own, regions, first, regulariser, threshold).sum()
                images = climbed(images.detach(), torch.autograd.grad(objective, images)[0], step)
    return total


def iterations_at(scale: float, iterations: int) -> int:
    """The number of iterations at a scale, which is smaller at 0.5 (the code's rule)."""
    if scale != 0.5:
        return iterations
    return iterations // 2 if iterations > 10 else min(iterations, 5)


def maps(context: Context) -> PerImage:
    """The maps of one image's own classes, summed over their climbs, with the network of CAM or of ReCAM."""
    network, settings, device = context.inputs["network"].requires_grad_(False), context.settings, context.device
    weights = network.chosen_weights(settings.network.weights)
    scales, at_once = settings.scales, settings.classes_at_once

    def grid(pair: torch.Tensor, keys: Sequence[int], iterations: int) -> torch.Tensor:
        parts = [keys[start : start + at_once] for start in range(0, len(keys), at_once)]
        how = (iterations, settings.step, settings.regulariser, settings.mask_threshold)
        return torch.cat([climb(network.features, weights, pair, part, *how) for part in parts])

    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        # image by image: a climb keeps all that its backward pass needs
        return [
            [
                grid(pair, loaded.item.labels, iterations_at(scale, settings.iterations))
                for scale, (pair,) in zip(scales, pairs([loaded], device), strict=False)  # without labels there are no views
            ]
            for loaded in batch
        ]

    return at_scales(context, compute, linear_maps)
