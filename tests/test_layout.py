"""Tests of the memory layout of networks."""

from collections.abc import Callable

import pytest
import torch

from backbones.backbone import Backbone
from backbones.efficientnet import efficientnet_lite0
from backbones.layout import layout, move
from backbones.mobilenet import mobilenetv2
from backbones.resnet import small

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("build", "device", "expected"),
    [
        (mobilenetv2, CPU, torch.channels_last),
        (small, CPU, torch.channels_last),
        (small, GPU, torch.channels_last),
        (mobilenetv2, GPU, torch.contiguous_format),
        (efficientnet_lite0, GPU, torch.contiguous_format),
    ],
)
def test_depthwise_convolutions_on_a_gpu_alone_keep_channels_first(
    build: Callable[..., Backbone], device: torch.device, expected: torch.memory_format
) -> None:
    assert layout(build(stride=16, dilated="none", frozen_statistics=True), device) is expected


def test_a_moved_network_has_the_layout() -> None:
    network = move(mobilenetv2(stride=16, dilated="none", frozen_statistics=True), CPU)
    assert all(weights.is_contiguous(memory_format=torch.channels_last) for weights in network.parameters() if weights.ndim == 4)
