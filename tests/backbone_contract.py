"""Tests that every backbone must pass: a class that inherits `Contract` names the architectures."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import nn

import backbones
from backbones import Backbone
from backbones.folding import fold_batch_norms
from backbones.precision import compute_in
from backbones.quickening import quicken
from imagesets.errors import WrongInput
from methods import cam

Architecture = Callable[..., Backbone]


def built(architecture: Architecture, frozen: bool = True, **options: object) -> Backbone:
    """A backbone with random weights at its coarsest output stride, which is the cheapest."""
    stride = max(outline(architecture).output_strides)
    return backbones.build(architecture, **{"stride": stride, "frozen_statistics": frozen, **options})


@cache
def outline(architecture: Architecture, stride: int = 16) -> Backbone:
    """A backbone without weights (on torch's meta device), which is quick to build."""
    with torch.device("meta"):
        return architecture(stride=stride, dilated=False, frozen_statistics=True)


def trainable(backbone: Backbone) -> set[str]:
    return {name for name, value in backbone.named_parameters() if value.requires_grad}


def norms(backbone: Backbone) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


class Contract:
    """The inheriting class defines the fixture `architecture`."""

    @pytest.mark.parametrize("size", [(64, 96), (17, 45), (1, 1)])
    def test_taps_have_the_declared_widths_and_strides_at_any_size(
        self, architecture: Architecture, size: tuple[int, int]
    ) -> None:
        for stride in outline(architecture).output_strides:
            backbone = built(architecture, stride=stride, dilated=stride == 8).eval()
            with torch.no_grad():
                taps = backbone(torch.zeros(2, 3, *size))
            expected = [
                (2, width, *(-(-side // cell) for side in size))
                for width, cell in zip(backbone.channels, backbone.strides, strict=True)
            ]
            assert [tuple(tap.shape) for tap in taps] == expected and backbone.strides[-1] == stride

    def test_a_stride_that_it_does_not_have_is_refused(self, architecture: Architecture) -> None:
        with pytest.raises(WrongInput, match=f"the output stride of backbone {architecture.__name__} is .*, not 64"):
            built(architecture, stride=64)

    def test_an_image_does_not_hear_of_the_others_of_its_batch(self, architecture: Architecture) -> None:
        backbone, images = built(architecture).double().eval(), torch.randn(2, 3, 48, 64, dtype=torch.float64)
        with torch.no_grad():
            for both, alone in zip(backbone(images), backbone(images[:1]), strict=True):
                torch.testing.assert_close(both[:1], alone)

    def test_every_parameter_belongs_to_one_part_and_the_first_is_the_stem(self, architecture: Architecture) -> None:
        backbone = built(architecture)
        members = [member for part in backbone.parts().values() for member in part]
        found = [id(own) for member in members for own in ([member] if isinstance(member, nn.Parameter) else member.parameters())]
        assert sorted(found) == sorted(map(id, backbone.parameters()))
        assert next(iter(backbone.parts())) == "stem"

    def test_freezing_grows_part_by_part_until_nothing_trains(self, architecture: Architecture) -> None:
        left = [trainable(built(architecture))]
        for part in outline(architecture).parts():
            backbone = built(architecture)
            backbone.freeze(part)
            left.append(trainable(backbone))
        assert all(later < earlier for earlier, later in pairwise(left)) and not left[-1]
        whole = built(architecture)
        whole.freeze("none")
        assert trainable(whole) == left[0]
        with pytest.raises(WrongInput, match="no part 'layer9' to freeze; it has stem"):
            backbone.freeze("layer9")

    def test_every_parameter_that_is_not_frozen_learns_from_the_taps(self, architecture: Architecture) -> None:
        backbone = built(architecture).train()
        backbone.freeze("stem")
        sum(tap.square().sum() for tap in backbone(torch.randn(2, 3, 64, 64))).backward()
        learns = {name for name, value in backbone.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
        assert learns == trainable(backbone)

    def test_statistics_are_frozen_where_they_should_be_and_nowhere_else(self, architecture: Architecture) -> None:
        for frozen in (True, False):
            backbone = nn.Sequential(built(architecture, frozen)).train()
            before = {name: value.clone() for name, value in backbone.named_buffers() if "running" in name}
            backbone(torch.randn(2, 3, 64, 64))
            same = all(torch.equal(dict(backbone.named_buffers())[name], value) for name, value in before.items())
            assert same == (frozen or not before)

    def test_what_is_saved_and_loaded_gives_the_same_taps(self, architecture: Architecture, tmp_path) -> None:
        first, images = built(architecture).eval(), torch.randn(1, 3, 48, 64)
        torch.save(first.state_dict(), tmp_path / "weights.pt")
        second = built(architecture, weights=str(tmp_path / "weights.pt")).eval()
        with torch.no_grad():
            assert all(map(torch.equal, first(images), second(images)))

    def test_without_its_last_rectifier_the_last_tap_alone_has_other_values(self, architecture: Architecture) -> None:
        backbone, images = built(architecture).eval(), torch.randn(2, 3, 48, 64)
        signed = deepcopy(backbone)
        signed.drop_last_rectifier()
        folded = deepcopy(signed)
        fold_batch_norms(folded)
        for network in (signed, folded):
            with torch.no_grad():
                *others, last = backbone(images)
                *same, found = network(images)
            assert found.min() < 0
            for tap, expected in zip((*same, found.clamp(last.min(), last.max())), (*others, last), strict=True):
                torch.testing.assert_close(tap, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))

    def test_folded_and_quickened_it_gives_the_same_taps(self, architecture: Architecture) -> None:
        torch.manual_seed(0)
        backbone, images = built(architecture).eval().requires_grad_(False), torch.rand(2, 3, 70, 97) - 0.5
        for norm in (module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)):
            for values, low in ((norm.running_mean, -0.2), (norm.running_var, 0.5), (norm.weight, 0.5), (norm.bias, -0.2)):
                values.uniform_(low, low + 0.5)
        quick = deepcopy(backbone)
        fold_batch_norms(quick)
        quicken(quick)
        assert norms(quick) < norms(backbone) or not norms(backbone)
        for tap, expected in zip(quick(images), backbone(images), strict=True):
            assert expected.std() > 0
            torch.testing.assert_close(tap, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))

    def test_weights_that_are_kept_in_bfloat16_give_the_same_bits(self, architecture: Architecture) -> None:
        backbone = built(architecture).eval().requires_grad_(False)
        quicken(backbone)
        compute_in(backbone, "bfloat16")
        kept = deepcopy(backbone)
        kept.keep_weights()
        assert any(weights.dtype is torch.bfloat16 for weights in kept.parameters())
        images = torch.randn(2, 3, 48, 64)
        with torch.no_grad():
            assert all(map(torch.equal, kept(images), backbone(images)))
        first, second = images.clone().requires_grad_(), images.clone().requires_grad_()  # as AdvCAM climbs
        for network, given in ((backbone, first), (kept, second)):
            network(given)[-1].square().mean().backward()
        assert torch.equal(first.grad, second.grad)

    def test_quickened_it_trains_as_before_under_the_same_names(self, architecture: Architecture) -> None:
        torch.manual_seed(0)
        backbone, images = built(architecture).train(), torch.randn(2, 3, 70, 97)
        quick = deepcopy(backbone)
        quicken(quick)
        assert list(quick.state_dict()) == list(backbone.state_dict())
        for network in (backbone, quick):
            torch.manual_seed(1)  # of dropout
            sum(tap.square().mean() for tap in network(images)).backward()
        pairs = zip(quick.named_parameters(), backbone.parameters(), strict=True)
        for (name, value), expected in (pair for pair in pairs if pair[1].requires_grad):
            assert (value.grad - expected.grad).norm() <= 0.01 * expected.grad.norm(), name  # rounding grows with depth

    def test_a_classifier_on_it_learns_and_has_maps(self, architecture: Architecture) -> None:
        network, images = cam.Classifier(built(architecture), 3), torch.randn(2, 3, 40, 56)
        cam.classification_loss(network(images), torch.eye(3)[:2], "bce").backward()
        assert network.classifier.weight.grad is not None and network.classifier.weight.grad.abs().sum() > 0
        with torch.no_grad():
            maps = cam.class_maps(network.eval().features(torch.stack([images[0], images[0].flip(-1)])), network.weights)
        stride = network.backbone.strides[-1]
        assert maps.shape == (3, -(-40 // stride), -(-56 // stride)) and maps.isfinite().all() and maps.max() > 0

    def test_it_starts_from_one_of_its_kind_and_refuses_another(self, architecture: Architecture) -> None:
        first, second = built(architecture), built(architecture)
        second.adopt(Network(first))
        assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
        with pytest.raises(WrongInput, match=r"of another kind; set backbone.weights to .*: \d+ missing"):
            second.adopt(nn.Linear(2, 2))


class Network(nn.Module):
    """A trained network, as far as `adopt` looks at it."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
