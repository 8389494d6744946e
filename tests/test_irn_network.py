"""IRNet: its forward pass on any backbone."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import backbones
from backbones import resnet
from backbones.mobilenet import mobilenetv2
from maps.grids import strided
from refiners.irnet import IRNet, boundaries, upsample

GOLDEN = {
    name: torch.from_numpy(array) for name, array in np.load(Path(__file__).parent / "golden" / "irnet_forward.npz").items()
}


def seeded(name: str, shape: torch.Size, tag: int) -> np.ndarray:
    """The golden vectors' rule: weights drawn by parameter name."""
    draw = np.random.RandomState(zlib.crc32(name.encode()) ^ tag)
    if name.endswith("running_var"):
        return draw.uniform(0.5, 1.5, shape)
    if name.endswith(("running_mean", "bias")):
        return draw.standard_normal(shape) * 0.1
    if len(shape) == 4:
        return draw.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return draw.uniform(0.8, 1.2, shape) * (0.25 if name.endswith("bn3.weight") else 1)


@pytest.fixture(scope="module")
def golden_network() -> IRNet:
    network = IRNet(backbones.build(resnet.resnet50, frozen_statistics=True)).eval()
    state = network.state_dict()
    for name, value in state.items():
        if not name.endswith(("num_batches_tracked", "displacement_mean")):
            value.copy_(torch.from_numpy(seeded(name.removeprefix("backbone."), value.shape, tag=17)))
    network.displacement_mean.copy_(torch.tensor([0.5, -0.25]))
    return network


@torch.no_grad()
def test_boundaries_and_displacements_are_the_golden_ones(golden_network):
    pair = torch.cat([GOLDEN["x"], GOLDEN["x"].flip(-1)])
    logits, displacement = golden_network(pair)
    torch.testing.assert_close(logits, GOLDEN["edge_logit_unpadded"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(displacement, GOLDEN["disp_unpadded"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(boundaries(golden_network, pair[None], padding=128)[0], GOLDEN["edge"][0], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_padding_smaller_than_the_image_changes_nothing(golden_network):
    pair = torch.cat([GOLDEN["x"], GOLDEN["x"].flip(-1)])
    assert torch.equal(boundaries(golden_network, pair[None], padding=64), boundaries(golden_network, pair[None]))


@torch.no_grad()
def test_the_boundary_of_the_mirrored_image_is_the_mirrored_boundary(golden_network):
    pair = torch.cat([GOLDEN["x"], GOLDEN["x"].flip(-1)])
    torch.testing.assert_close(boundaries(golden_network, pair.flip(0)[None]), boundaries(golden_network, pair[None]).flip(-1))


@torch.no_grad()
@pytest.mark.parametrize("architecture", [resnet.small, resnet.resnet18, mobilenetv2])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_any_backbone_and_stride_gives_the_stride_4_grid(architecture, stride):
    network = IRNet(backbones.build(architecture, stride=stride, frozen_statistics=True)).eval()
    logits, displacement = network(torch.zeros(1, 3, 53, 70))
    assert logits.shape == (1, 1, *strided((53, 70))) and displacement.shape == (1, 2, *strided((53, 70)))


def test_only_the_two_branches_learn():
    network = IRNet(backbones.build(resnet.small, frozen_statistics=True)).train()
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    logits, displacement = network(torch.randn(2, 3, 64, 64))
    (logits.mean() + displacement.abs().mean()).backward()
    learning = {id(parameter) for parameter in network.boundary_parameters() + network.displacement_parameters()}
    for parameter in network.parameters():
        assert (parameter.grad is not None) == (id(parameter) in learning) == parameter.requires_grad
    assert all(torch.equal(before[name], value) for name, value in network.backbone.state_dict().items())


def test_the_mean_displacement_is_subtracted_in_evaluation_alone():
    network = IRNet(backbones.build(resnet.small, frozen_statistics=True))
    network.displacement_mean.copy_(torch.tensor([2.0, -3.0]))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        shift = network.train()(images)[1] - network.eval()(images)[1]
    torch.testing.assert_close(shift.mean(dim=(0, 2, 3)), torch.tensor([2.0, -3.0]))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4, 8]))
def test_upsampling_finds_the_published_factor_from_the_sizes(height, width, factor):
    features = torch.rand((1, 2, -(-height // factor), -(-width // factor)), generator=torch.Generator().manual_seed(0))
    published = functional.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)[..., :height, :width]
    torch.testing.assert_close(upsample(features, (height, width)), published)
