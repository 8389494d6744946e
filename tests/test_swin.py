"""Swin: the official network's stages, file names and size."""

from pathlib import Path
from typing import Unpack

import numpy as np
import pytest
import torch

import backbones
from backbones.backbone import Options
from backbones.state import load_state
from backbones.swin import Swin, swin_t
from backbones.vision_models import models
from tests.backbone_contract import Architecture, Contract

GOLDEN = np.load(Path(__file__).parent / "golden" / "swin_two_stage.npz")


def tiny_swin(**options: Unpack[Options]) -> Swin:
    """Four stages of at most 64 channels."""
    return Swin(8, (2, 2, 2, 2), (1, 2, 2, 4), frozen_statistics=options["frozen_statistics"])


class TestTinySwin(Contract):
    @pytest.fixture
    def architecture(self) -> Architecture:
        return tiny_swin


def test_the_stages_are_the_official_ones_where_windows_do_not_fit_the_image():
    network = Swin(12, (2, 2), (1, 2), frozen_statistics=False).eval()
    state = {name[2:]: torch.from_numpy(GOLDEN[name]) for name in GOLDEN if name.startswith("w|")}
    load_state(network, network.renamed(state), "the official names")
    with torch.no_grad():
        taps = network(torch.from_numpy(GOLDEN["x"]))
    for number, tap in enumerate(taps):
        np.testing.assert_allclose(tap, GOLDEN[f"out{number}"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_weights_of_torchvision_give_its_classes(tmp_path):
    reference = models.swin_t(weights=None).eval()
    torch.nn.init.normal_(reference.norm.weight)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    network = backbones.build(swin_t, weights=str(tmp_path / "weights.pth"), frozen_statistics=True).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(reference.head(network(images)[-1].mean((2, 3))), reference(images))


def test_blocks_are_left_out_in_training_alone_and_more_often_the_later_they_are():
    network = Swin(12, (2, 2), (1, 2), drop_path=0.3, frozen_statistics=False)
    chances = [block.stochastic_depth.p for stage in (1, 3) for block in network.features[stage]]
    assert chances == pytest.approx([0, 0.1, 0.2, 0.3])
    images = torch.randn(4, 3, 32, 32)
    torch.manual_seed(1)
    first, second = network.train()(images)[-1], network(images)[-1]
    assert not torch.equal(first, second)
    assert torch.equal(network.eval()(images)[-1], network(images)[-1])
