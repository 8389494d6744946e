"""AdvCAM's climb: one backward pass an iteration, against the public code's two and its gradients of the network's weights.

Run from the repository root: python -m benchmarks.advcam_iteration   (two minutes, one thread)

ResNet-50 on a 188x250 image (scale 0.5) and its mirror, two classes. Prints the CPU time per class
and iteration, and fails where the summed maps differ.
"""

import torch

import backbones
from backbones.resnet import resnet50
from benchmarks.clock import median_time
from methods.advcam import TINY, climb
from methods.cam import Classifier

CLASSES, KEYS, STEP, REGULARISER, THRESHOLD = 20, (3, 14), 0.08, 7.0, 0.5
SIZE = (188, 250)
TIMED, COMPARED = 9, 3  # iterations; climbs amplify differences of rounding, so equality is asked of the first few


def published_climb(network: Classifier, pair: torch.Tensor, key: int, iterations: int) -> torch.Tensor:
    """One class's climb as the public code computes it: gradients at the features first, then those of the objective."""
    images, first, total = pair, torch.empty(0), torch.zeros(())
    for iteration in range(iterations):
        images = images.detach().requires_grad_()
        network.zero_grad()
        features = network.features(images)
        features.retain_grad()
        logit_maps = network.classifier(features)
        logit_maps[:, key].relu().sum().backward(retain_graph=True)
        assert features.grad is not None
        pooled = features.grad.sum(dim=(2, 3), keepdim=True) / (features.grad > 0).sum()
        responses = (features * pooled).sum(dim=1).relu()
        region = responses[0] + responses[1].flip(-1)
        first = region.detach() if iteration == 0 else first
        total = total + region.detach()
        scores = logit_maps.relu().mean(dim=(2, 3)).sum(dim=0)
        mask = (region / region.max() > THRESHOLD).detach()
        objective = 2 * scores[key] - scores.sum() - REGULARISER * (mask * (region - first).abs()).sum()
        network.zero_grad()
        images.grad = None
        objective.backward()
        assert images.grad is not None
        moved = images.detach() + STEP * images.grad / (images.grad.abs().max() + TINY)
        images = moved.clamp(images.min().item(), images.max().item())
    return total


def main() -> None:
    """Print one line; fails where the maps differ."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    image = torch.randn(3, *SIZE)
    pair = torch.stack([image, image.flip(-1)])
    network = Classifier(backbones.build(resnet50, weights="none", frozen_statistics=False), CLASSES)
    with torch.no_grad():
        for _ in range(20):  # statistics of its own features: random weights make them explode otherwise
            network.features(pair)
        vectors = network.eval().features(pair)[0].flatten(1).T
        # each class responds near one place, as a trained one does: one that responds nowhere is NaN in the published procedure
        network.classifier.weight.copy_((vectors[:CLASSES] - vectors.mean(dim=0))[:, :, None, None])

    def published(iterations: int) -> torch.Tensor:
        return torch.stack([published_climb(network, pair, key, iterations) for key in KEYS])

    def ours(iterations: int) -> torch.Tensor:
        return climb(network.features, network.weights, pair, KEYS, iterations, STEP, REGULARISER, THRESHOLD)

    expected, their_time = published(COMPARED), median_time(lambda: published(TIMED), rounds=1)[1]
    network.requires_grad_(False)
    torch.testing.assert_close(ours(COMPARED), expected, rtol=1e-2, atol=1e-2 * expected.max().item())
    our_time = median_time(lambda: ours(TIMED), rounds=1)[1]
    per = len(KEYS) * TIMED
    print(
        f"AdvCAM, ResNet-50, pair of {SIZE[0]}x{SIZE[1]}, one thread, CPU time per class and iteration: "
        f"as published {their_time / per:.2f} s -> {our_time / per:.2f} s ({their_time / our_time:.2f}x), equal maps"
    )


if __name__ == "__main__":
    main()
