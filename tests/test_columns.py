"""Convolutions as one product of columns: the numbers of `conv2d` for every filter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from backbones.columns import ENOUGH, ColumnsConv2d, convolve, has_columns
from backbones.quickening import quicken

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(kernel=pairs, stride=pairs, dilation=pairs, padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), bias=st.booleans())
def test_convolve_is_conv2d(kernel, stride, dilation, padding, bias):
    convolution = nn.Conv2d(4, 5, kernel, stride, padding, dilation, bias=bias).requires_grad_(False)
    images = torch.randn(2, 4, 11, 9).to(memory_format=torch.channels_last)
    found = convolve(images, convolution)
    torch.testing.assert_close(found, convolution(images), rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_only_dense_filters_of_many_channels_have_columns():
    others = [nn.Conv2d(3, 64, 7), nn.Conv2d(64, 64, 3, groups=2), nn.Conv2d(64, 64, 3, padding="same")]
    others.append(nn.Conv2d(64, 64, 3, padding_mode="reflect"))
    assert not any(map(has_columns, others))
    network = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 1, stride=2), *others)
    quicken(network)
    assert [type(module) is ColumnsConv2d for module in network] == [True, True] + [False] * len(others)


@pytest.mark.gpu
def test_few_images_of_a_new_size_go_without_cudnn(monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    network = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 96, 3, 2, 2, 2))
    network = network.cuda().to(memory_format=torch.channels_last).requires_grad_(False)
    images = torch.randn(2, 64, 41, 37, device="cuda").to(memory_format=torch.channels_last)
    expected = network.double()(images.double())
    quicken(network.float())
    by_cudnn = []
    conv2d = functional.conv2d
    monkeypatch.setattr(functional, "conv2d", lambda given, *rest: by_cudnn.append(len(given)) or conv2d(given, *rest))
    for few in (images, images.repeat(ENOUGH, 1, 1, 1)):
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            found = network(few.bfloat16())
        assert (found[:2] - expected).norm() < 0.01 * expected.norm()
    assert by_cudnn == [2 * ENOUGH] * 2
