"""Depthwise convolutions in float32 within a network of bfloat16: where, and with which numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from backbones.depthwise import DepthwiseConv2d
from backbones.quickening import quicken

SLOW = [{"kernel_size": 3, "stride": 2}, {"kernel_size": 5}, {"kernel_size": 3, "dilation": 2}]


def depthwise(**options: int) -> nn.Conv2d:
    network = nn.Sequential(nn.Conv2d(6, 6, groups=6, **options))
    quicken(network)
    return network[0]


@pytest.mark.parametrize("options", SLOW, ids=str)
@pytest.mark.parametrize("half", [True, False])
def test_it_is_conv2d_with_gradients_as_exact_as_float32(options, half):
    convolution = depthwise(**options)
    assert type(convolution) is DepthwiseConv2d
    images = torch.randn(2, 6, 11, 14).to(torch.bfloat16).float().requires_grad_()
    given = [images, convolution.weight]
    expected = functional.conv2d(*given, convolution.bias, convolution.stride, 0, convolution.dilation, 6)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = convolution(images)
    assert found.dtype is (torch.bfloat16 if half else torch.float32)
    torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=1e-2 if half else 1e-6)
    seen = torch.randn_like(expected).to(torch.bfloat16).float()  # what a part in bfloat16 hands back
    gradients = torch.autograd.grad(found, given, seen.to(found.dtype)), torch.autograd.grad(expected, given, seen)
    for gradient, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)


def test_without_gradients_it_computes_in_bfloat16(monkeypatch):
    convolution, seen = depthwise(**SLOW[0]), []
    conv2d = functional.conv2d
    monkeypatch.setattr(
        functional, "conv2d", lambda images, *rest: seen.append(torch.is_autocast_enabled("cpu")) or conv2d(images, *rest)
    )
    with torch.autocast("cpu", torch.bfloat16):
        convolution(torch.zeros(1, 6, 8, 8))
        with torch.no_grad():
            convolution(torch.zeros(1, 6, 8, 8))
    assert seen == [False, True]


@pytest.mark.parametrize(
    "other", [nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 3, stride=2, groups=2), nn.Conv2d(1, 4, 3, stride=2)]
)
def test_other_convolutions_stay_as_they_are(other):
    quicken(other)
    assert type(other) is nn.Conv2d
