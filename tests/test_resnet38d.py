"""ResNet-38: the public code's blocks, and its ImageNet weights by file."""

from pathlib import Path
from typing import Unpack

import numpy as np
import pytest
import torch

import backbones
from backbones.backbone import Options
from backbones.mxnet_file import read_mxnet_file
from backbones.resnet38d import Block, Bottleneck, ResNet38d
from backbones.state import load_state
from imagesets.errors import WrongInput
from tests.backbone_contract import Architecture, Contract

GOLDEN = Path(__file__).parent / "golden"
# written by MXNet 0.9.5 (mx.nd.save) with the names of the authors' file, for a network of width 1; 0, 1, 2, ... plus a number
OF_MXNET = GOLDEN / "resnet38_width1_mxnet_0.9.5.params"


def narrow(**options: Unpack[Options]) -> ResNet38d:
    """A sixteenth of the channels."""
    return ResNet38d(width=4, frozen_statistics=options["frozen_statistics"])


def narrowest(**options: Unpack[Options]) -> ResNet38d:
    """The network of the MXNet file."""
    return ResNet38d(width=1, frozen_statistics=options["frozen_statistics"])


class TestNarrowResNet38d(Contract):
    @pytest.fixture
    def architecture(self) -> Architecture:
        return narrow


def test_its_blocks_are_those_of_the_public_code():
    golden = np.load(GOLDEN / "resnet38d_blocks.npz")
    blocks = {
        "stride2": Block(6, 8, 8, stride=2),
        "same": Block(8, 8, 8),
        "dil": Block(8, 8, 16, first_dilation=1, dilation=2),
        "bot4": Bottleneck(16, 24, dilation=4, dropout=0.5),
    }
    features = torch.from_numpy(golden["x"])
    for name, block in blocks.items():
        own = {key.removeprefix(f"{name}|"): torch.from_numpy(golden[key]) for key in golden if key.startswith(f"{name}|")}
        load_state(block.eval(), own, name)
        with torch.no_grad():
            features, activated = block(features)
        np.testing.assert_allclose(features, golden[f"{name}_out"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(activated, golden[f"{name}_preact"], rtol=1e-4, atol=1e-4)


def test_its_taps_are_the_activated_inputs_of_stages_5_6_and_7_and_the_end():
    network = narrow(stride=8, dilated=False, frozen_statistics=True).eval()
    seen = {}
    for name in ("b4", "b5", "b6", "b7"):
        network.get_submodule(f"{name}.bn_branch2a").register_forward_hook(
            lambda module, given, made, name=name: seen.update({name: made.relu()})
        )
    with torch.no_grad():
        taps = network(torch.randn(1, 3, 50, 70))
    assert [tuple(tap.shape[1:]) for tap in taps] == [(16, 13, 18), (32, 7, 9), (64, 7, 9), (256, 7, 9)]
    assert all(torch.equal(tap, seen[name]) for tap, name in zip(taps, ("b4", "b5", "b6"), strict=False))
    assert all(tap.min() >= 0 for tap in taps)


def test_frozen_statistics_freeze_scale_and_shift_too_and_live_ones_nothing():
    norms = {frozen: narrowest(stride=8, dilated=False, frozen_statistics=frozen).b7.bn_branch2b1 for frozen in (True, False)}
    assert {frozen: norm.weight.requires_grad or norm.bias.requires_grad for frozen, norm in norms.items()} == {
        True: False,
        False: True,
    }


def test_whole_channels_are_dropped_in_training_alone():
    network, images = narrow(stride=8, dilated=False, frozen_statistics=True), torch.randn(1, 3, 40, 40)
    assert [network.b6.dropout_2b1.p, network.b6.dropout_2b2.p, network.b7.dropout_2b1.p] == [0.3, 0.3, 0.5]
    assert not torch.equal(network.train()(images)[-1], network(images)[-1])
    assert torch.equal(network.eval()(images)[-1], network(images)[-1])


def test_a_file_of_mxnet_gives_every_weight_under_its_public_name():
    written = read_mxnet_file(OF_MXNET)
    network = backbones.build(narrowest, stride=8, weights=str(OF_MXNET), frozen_statistics=True)
    found = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    pairs = {
        "conv1a.weight": "conv1a_weight",
        "b2.conv_branch1.weight": "res2a_branch1_weight",
        "b4_5.conv_branch2b1.weight": "res4b5_branch2b1_weight",
        "b5_1.bn_branch2b1.running_var": "bn5b1_branch2b1_moving_var",
        "b6.bn_branch2b2.running_mean": "bn6a_branch2b2_moving_mean",
        "b7.bn_branch2a.bias": "bn7a_branch2a_beta",
        "bn7.weight": "bn7_gamma",
    }
    assert all(torch.equal(found[own], written[theirs]) for own, theirs in pairs.items())
    assert len(found) == len(written) - 2  # the classifier's weight and bias
    of_file = sorted(float(value.flatten()[0]) for name, value in written.items() if not name.startswith("linear1000"))
    assert sorted(float(value.flatten()[0]) for value in found.values()) == of_file


def test_the_converted_file_loads_under_the_public_names(tmp_path):
    network = narrowest(stride=8, dilated=False, frozen_statistics=True)
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "resnet38d.pth")
    again = backbones.build(narrowest, stride=8, weights=str(tmp_path / "resnet38d.pth"), frozen_statistics=True)
    assert torch.equal(again.b7.conv_branch2b2.weight, network.b7.conv_branch2b2.weight)


def test_other_names_are_told():
    with pytest.raises(WrongInput, match=r"do not fit backbone narrowest: \d+ missing .*, 2 unexpected \(first: a_weight\)"):
        backbones.build(narrowest, stride=8, weights=str(GOLDEN / "mxnet_1.9.1.params"), frozen_statistics=True)
