"""Mixed precision: what computes in which precision, and what is told where nothing does."""

import pytest
import torch
from torch import nn

import backbones
from backbones.extraction import for_extraction
from backbones.precision import MixedPrecision, compute_in
from backbones.resnet import small
from imagesets.errors import WrongInput
from methods import amn
from tests.tiny_vit import tiny_vit


class Heavy(MixedPrecision):
    """A product with its own weights, which tells in what precision it was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, list[torch.dtype]]:
        made = self.layer(values)
        self.seen = made.dtype
        return made, [made, values.long()]


def test_a_network_that_is_only_read_keeps_float32_weights_in_its_heads_which_read_them():
    network = amn.AMN(backbones.build(small, frozen_statistics=True), 3, dropout=0.0).eval().requires_grad_(False)
    read = for_extraction(network, "bfloat16", torch.device("cpu"))
    assert any(weights.dtype is torch.bfloat16 for weights in read.backbone.parameters())
    assert {weights.dtype for weights in read.aspp.parameters()} == {torch.float32}
    assert read.probability(torch.randn(5, read.backbone.channels[-1]), 1).isfinite().all()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_part_computes_in_its_precision_and_hands_out_float32_in_the_same_form(precision):
    network, values = nn.Sequential(Heavy()), torch.randn(2, 3)
    exact, _ = network(values)
    compute_in(network, precision)
    made, (again, whole) = network(values)
    assert network[0].seen == getattr(torch, precision) and network[0].layer.weight.dtype == torch.float32
    assert made.dtype == again.dtype == torch.float32 and whole.dtype == torch.int64
    assert not torch.equal(made, exact)
    torch.testing.assert_close(made, exact, rtol=0.02, atol=0.02)
    compute_in(network, "float32")
    assert torch.equal(network(values)[0], exact)


def test_what_is_around_the_parts_is_float32():
    network = nn.Sequential(Heavy(), nn.Identity())
    compute_in(network, "bfloat16")
    (made, _), layer = network(torch.randn(2, 3)), nn.Linear(3, 1)
    assert layer(made).dtype == torch.float32


def test_a_gradient_reaches_the_weights_as_float32():
    network = Heavy()
    compute_in(network, "bfloat16")
    network(torch.randn(2, 3))[0].sum().backward()
    assert network.layer.weight.grad.dtype == torch.float32


def taps(backbone: backbones.Backbone, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return backbone(images)


def tokens(backbone: backbones.TokenBackbone, images: torch.Tensor) -> backbones.Tokens:
    return backbone.tokens(images, (0, 1))[1]


@pytest.mark.parametrize(("architecture", "made"), [(small, taps), (tiny_vit, taps), (tiny_vit, tokens)])
def test_taps_and_tokens_of_backbones_are_computed_in_it(architecture, made):
    images, backbone = torch.randn(1, 3, 32, 48), backbones.build(architecture, stride=16, frozen_statistics=True).eval()
    backbone.requires_grad_(False)
    exact = made(backbone, images)
    compute_in(backbone, "bfloat16")
    for found, expected in zip(made(backbone, images), exact, strict=True):
        assert found.dtype == torch.float32 and not torch.equal(found, expected)
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))


def test_a_network_without_such_parts_is_refused():
    compute_in(nn.Linear(2, 2), "float32")
    with pytest.raises(WrongInput, match="Linear has no part that computes in bfloat16; set the precision to float32, or derive"):
        compute_in(nn.Linear(2, 2), "bfloat16")
