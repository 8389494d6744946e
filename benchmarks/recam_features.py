"""ReCAM's class features: maps contracted with features, against masking the features once per class as in the public code.

Run from the repository root: python -m benchmarks.recam_features   (a minute, 3 GB, one thread, Linux)

Forward and backward on a batch of 512 crops of 20 classes. Prints the CPU time of both and the growth of the peak resident
memory, and fails where class features or gradients differ.
"""

import torch

from benchmarks.clock import measured
from maps.reading import EPSILON
from methods.recam import class_features

BATCH, CLASSES, CHANNELS, SIDE = 2, 20, 2048, 32


def masked_features(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """[B,C,h,w] and [K,C] to [B,K,C] by way of [B,K,C,h,w]."""
    maps = torch.nn.functional.conv2d(features, weights[:, :, None, None]).relu()
    maps = maps / (maps.amax(dim=(2, 3), keepdim=True) + EPSILON)
    return (maps[:, :, None] * features[:, None]).mean(dim=(3, 4))


def main() -> None:
    """Print one line; fails where the two differ."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features, weights = torch.rand(BATCH, CHANNELS, SIDE, SIDE), 0.02 * torch.randn(CLASSES, CHANNELS)
    upstream = torch.randn(BATCH, CLASSES, CHANNELS)

    def side(function):
        def work() -> tuple[torch.Tensor, ...]:
            inputs = features.clone().requires_grad_(), weights.clone().requires_grad_()
            found = function(*inputs)
            return found.detach(), *torch.autograd.grad(found, inputs, upstream)

        return work

    ours, our_time, our_memory = measured(side(class_features), rounds=5)
    theirs, their_time, their_memory = measured(side(masked_features), rounds=3)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())
    print(
        f"ReCAM class features, forward and backward, B={BATCH}, K={CLASSES}, C={CHANNELS}, {SIDE}x{SIDE}, one thread, CPU time: "
        f"masked per class {their_time:.2f} s, {their_memory:.0f} MB -> contracted {our_time:.3f} s, {our_memory:.0f} MB "
        f"({their_time / our_time:.1f}x, {their_memory / our_memory:.0f}x), equal features and gradients"
    )


if __name__ == "__main__":
    main()
