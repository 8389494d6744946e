"""Batch norms folded into convolutions: the same output, and only where a norm directly follows a convolution."""

import torch
from torch import nn

from backbones.folding import fold_batch_norms


def in_use(*layers: nn.Module) -> nn.Sequential:
    """Layers in evaluation mode, whose batch norms have seen something."""
    network = nn.Sequential(*layers).train()
    network(torch.randn(4, 3, 9, 9) * 3 + 1)
    return network.eval().requires_grad_(False)


def test_a_batch_norm_after_a_convolution_becomes_a_part_of_it():
    for convolution in (nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(3, 6, 3, stride=2, groups=3, padding=1)):
        network, images = in_use(nn.Sequential(convolution, nn.BatchNorm2d(6)), nn.ReLU()), torch.randn(2, 3, 8, 11)
        expected = network(images)
        fold_batch_norms(network)
        assert isinstance(network[0][1], nn.Identity)
        torch.testing.assert_close(network(images), expected)


def test_other_norms_stay_as_they_are():
    layers = (nn.BatchNorm2d(3), nn.Conv2d(3, 6, 1), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1))
    network, images = in_use(*layers, nn.BatchNorm2d(4, track_running_stats=False)), torch.randn(2, 3, 8, 11)
    expected = network(images)
    fold_batch_norms(network)
    assert torch.equal(network(images), expected)
