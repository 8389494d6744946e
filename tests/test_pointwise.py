"""1x1 convolutions by rows: the numbers and gradients of `conv2d` in every shape, and where they are used."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from backbones.pointwise import PointwiseConv2d, convolve
from backbones.quickening import quicken

# [B,C,H,W]: by rows; by rows, with channels first; one row; too few rows; enough images
SHAPES = [(2, 8, 24, 7), (1, 3, 16, 1), (15, 4, 2, 3), (1, 8, 1, 40), (2, 8, 7, 9), (16, 4, 5, 6)]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_convolve_is_conv2d_with_its_gradients(shape, layout, bias):
    images = torch.randn(shape).to(memory_format=layout).requires_grad_()
    weight = torch.randn(5, shape[1], 1, 1, requires_grad=True)
    given = (images, weight, torch.randn(5, requires_grad=True)) if bias else (images, weight)
    found, expected = convolve(*given), functional.conv2d(*given)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    seen = torch.randn_like(expected)
    gradients = zip(torch.autograd.grad(found, given, seen), torch.autograd.grad(expected, given, seen), strict=True)
    for gradient, wanted in gradients:
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)


@pytest.fixture
def threads() -> Iterator[int]:
    """The threads of torch, which a test may change: tests run on one (`conftest.py`)."""
    yield torch.get_num_threads()
    torch.set_num_threads(1)


def test_rows_reach_torch_as_images_only_where_that_is_faster(monkeypatch, threads):
    assert threads == 1
    seen = []
    conv2d = functional.conv2d
    monkeypatch.setattr(functional, "conv2d", lambda images, *rest: seen.append(tuple(images.shape)) or conv2d(images, *rest))
    for batch, kind in ((2, torch.float32), (16, torch.float32), (2, torch.bfloat16)):
        convolve(torch.zeros(batch, 3, 20, 7, dtype=kind), torch.zeros(5, 3, 1, 1, dtype=kind))
    torch.set_num_threads(2)
    convolve(torch.zeros(2, 3, 20, 7), torch.zeros(5, 3, 1, 1))
    assert seen == [(40, 3, 1, 7), (16, 3, 20, 7), (2, 3, 20, 7), (2, 3, 20, 7)]


def test_only_plain_1x1_convolutions_are_quickened():
    others = [
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 1, stride=2),
        nn.Conv2d(4, 4, 1, padding=1),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.ConvTranspose2d(4, 4, 1),
    ]
    network = nn.Sequential(nn.Conv2d(4, 4, 1), *others)
    quicken(network)
    assert [type(module) is PointwiseConv2d for module in network] == [True] + [False] * len(others)
