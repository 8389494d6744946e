"""Vision transformers: timm's numbers, the tokens and attention of blocks, and weights in timm's names."""

from typing import Unpack

import pytest
import torch

import backbones
from backbones.backbone import Options
from backbones.vision_models import timm_network
from backbones.vit import VisionTransformer, vit_small
from imagesets.errors import WrongInput
from imagesets.transforms import MEAN, STANDARD_DEVIATION

SIZE = {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 2}


def tiny(*, class_tokens: int = 1, drop_path: float = 0.0, **options: Unpack[Options]) -> VisionTransformer:
    """Three blocks of 24 channels, learnt on 4 x 4 patches."""
    return VisionTransformer(class_tokens, drop_path, options, size=SIZE)


@pytest.fixture
def reference(tmp_path) -> torch.nn.Module:
    """timm's network of the same size, whose weights lie in `tmp_path`."""
    network = timm_network("vit_small_patch16_224", num_classes=5, dynamic_img_size=True, **SIZE).eval()
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.2)
    torch.save({"model": network.state_dict()}, tmp_path / "weights.pth")
    return network


def loaded(folder, **own: object) -> VisionTransformer:
    return backbones.build(tiny, weights=str(folder / "weights.pth"), frozen_statistics=True, **own).eval()


def test_weights_in_timms_names_give_timms_tokens_and_tap(reference, tmp_path):
    backbone, images = loaded(tmp_path), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (tap,) = backbone(images)
        (last,) = backbone.tokens(images, [2])
        expected = reference.forward_features(images)
    torch.testing.assert_close(tap.flatten(2).transpose(1, 2), expected[:, 1:])
    torch.testing.assert_close(backbone.norm(last.classes), expected[:, :1])
    torch.testing.assert_close(backbone.norm(last.patches.flatten(2).transpose(1, 2)), expected[:, 1:])


def test_tokens_of_chosen_blocks_come_in_the_order_asked_for_with_their_attention(reference, tmp_path):
    backbone, images, seen = loaded(tmp_path), torch.randn(1, 3, 64, 64), []
    for block in reference.blocks:
        block.register_forward_hook(lambda module, given, made: seen.append(made))
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, given, made: seen.append(made))
    with torch.no_grad():
        reference.forward_features(images)
        last, first = backbone.tokens(images, (2, 0))
    attentions, tokens = seen[::2], seen[1::2]
    for found, number in ((last, 2), (first, 0)):
        torch.testing.assert_close(found.attention, attentions[number])
        joined = torch.cat([found.classes, found.patches.flatten(2).transpose(1, 2)], dim=1)
        torch.testing.assert_close(joined, tokens[number])


def test_one_class_token_of_a_file_stands_for_each_class_at_any_image_size(reference, tmp_path):
    backbone = loaded(tmp_path, class_tokens=5)
    assert torch.equal(backbone.class_tokens, reference.cls_token.expand(1, 5, -1))
    assert torch.equal(backbone.class_positions, reference.pos_embed[:, :1].expand(1, 5, -1))
    (last,) = backbone.tokens(torch.randn(2, 3, 40, 70), [2])
    assert last.classes.shape == (2, 5, 24) and last.patches.shape == (2, 24, 3, 5) and last.attention.shape == (2, 2, 20, 20)
    torch.testing.assert_close(last.classes, last.classes[:, :1].expand(-1, 5, -1))  # alike until training tells them apart


@pytest.mark.parametrize("codes", [None, (1, 2 + 16, 24), (1 + 16, 24), (1, 0, 24)])  # the second is of a distilled DeiT
def test_position_codes_of_another_form_are_told_in_a_sentence(codes, reference, tmp_path):
    state = {name: value for name, value in reference.state_dict().items() if name != "pos_embed"}
    torch.save(state | ({"pos_embed": torch.zeros(codes)} if codes else {}), tmp_path / "weights.pth")
    with pytest.raises(WrongInput, match=r"do not fit backbone tiny: 3 missing \(first: class_tokens\), . unexpected"):
        loaded(tmp_path)


def test_position_codes_keep_their_places_in_a_finer_grid():
    backbone = tiny(stride=16, dilated=False, frozen_statistics=True).eval()
    ramp = torch.arange(4.0)[:, None].expand(4, 4)
    with torch.no_grad():
        backbone.positions.copy_(ramp), backbone.patch.weight.zero_(), backbone.patch.bias.zero_()
        tokens, grid = backbone._embedded(torch.zeros(1, 3, 128, 80))
    codes = tokens[0, 1:, 0].unflatten(0, tuple(grid))
    assert grid == (8, 5) and codes.diff(dim=0).min() > 0 and torch.allclose(codes, codes[:, :1].expand_as(codes), atol=1e-5)


def test_blocks_are_left_out_in_training_alone():
    backbone, images = tiny(stride=16, dilated=False, frozen_statistics=True, drop_path=0.5), torch.randn(8, 3, 64, 64)
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in backbone.block] == [0.0, 0.25, 0.5]
    assert not torch.equal(backbone.train()(images)[0], backbone(images)[0])
    assert torch.equal(backbone.eval()(images)[0], backbone(images)[0])


@pytest.mark.slow
def test_vit_small_sees_images_of_mean_and_deviation_one_half():
    reference, images = timm_network("vit_small_patch16_224", num_classes=0).eval(), torch.rand(1, 3, 224, 224)
    backbone = vit_small(stride=16, dilated=False, frozen_statistics=True).eval()
    backbone.load_state_dict(backbone.renamed(reference.state_dict()))
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, STANDARD_DEVIATION))
    with torch.no_grad():
        (tap,) = backbone((images - mean) / deviation)
        expected = reference.forward_features((images - 0.5) / 0.5)[:, 1:]
    torch.testing.assert_close(tap.flatten(2).transpose(1, 2), expected, rtol=1e-3, atol=1e-4)
