"""The interface of backbones on a tiny vision transformer."""

import sys
from types import SimpleNamespace

import pytest
import torch

import backbones
from backbones.vision_models import models
from imagesets.errors import WrongInput
from methods import cam
from tests.backbone_contract import Architecture, Contract
from tests.tiny_vit import GRID, HEADS, PATCH, WIDTH, tiny_vit
from training.stage import Settings


class TestTinyViT(Contract):
    @pytest.fixture
    def architecture(self) -> Architecture:
        return tiny_vit


def reference() -> torch.nn.Module:
    """torchvision's transformer of the same size, which has other names and one fused attention."""
    size = {"image_size": PATCH * GRID, "patch_size": PATCH, "num_layers": 2, "num_heads": HEADS}
    network = models.vision_transformer.VisionTransformer(**size, hidden_dim=WIDTH, mlp_dim=2 * WIDTH, num_classes=3)
    torch.nn.init.normal_(network.class_token)
    return network.eval()


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_in_torchvisions_names_give_torchvisions_tokens(tmp_path, wrapped: bool) -> None:
    network, images = reference(), torch.randn(2, 3, PATCH * GRID, PATCH * GRID)
    state = network.state_dict()
    torch.save({"model": state, "epoch": 3} if wrapped else state, tmp_path / "weights.pth")
    backbone = backbones.build(tiny_vit, weights=str(tmp_path / "weights.pth"), frozen_statistics=True).eval()
    with torch.no_grad():
        expected = network.encoder(torch.cat([network.class_token.expand(2, -1, -1), network._process_input(images)], dim=1))
        (last,) = backbone.tokens(images, [1])
        patches = backbone(images)[-1]
    torch.testing.assert_close(backbone.norm(last.classes), expected[:, :1])
    torch.testing.assert_close(patches.flatten(2).transpose(1, 2), expected[:, 1:])


def test_one_class_token_of_a_file_stands_for_each_class(tmp_path) -> None:
    state = reference().state_dict()
    torch.save(state, tmp_path / "weights.pth")
    backbone = backbones.build(tiny_vit, class_tokens=5, weights=str(tmp_path / "weights.pth"), frozen_statistics=True)
    assert torch.equal(backbone.class_tokens, state["class_token"].expand(1, 5, -1))
    first, last = backbone.tokens(torch.randn(2, 3, 40, 70), [0, 1])
    assert first.classes.shape == (2, 5, WIDTH) and last.patches.shape == (2, WIDTH, 3, 5)
    assert last.attention.shape == (2, HEADS, 20, 20)
    torch.testing.assert_close(last.attention.sum(dim=3), torch.ones(2, HEADS, 20))


def test_what_does_not_fit_after_renaming_is_told_in_a_sentence(tmp_path) -> None:
    state = {"extra.weight": torch.zeros(1), **reference().state_dict()}
    del state["encoder.ln.weight"]
    torch.save(state, tmp_path / "weights.pth")
    told = r"do not fit backbone tiny_vit: 1 missing \(first: norm.weight\), 1 unexpected \(first: extra.weight\)$"
    with pytest.raises(WrongInput, match=told):
        backbones.build(tiny_vit, weights=str(tmp_path / "weights.pth"), frozen_statistics=True)


def test_imagenet_weights_come_by_timm_where_the_architecture_says_so(monkeypatch) -> None:
    state = reference().state_dict()
    asked = []

    def create_model(name: str, pretrained: bool) -> torch.nn.Module:
        asked.append((name, pretrained))
        return SimpleNamespace(state_dict=lambda: state)

    monkeypatch.setattr("tests.tiny_vit.TinyViT.imagenet", "timm:vit_tiny_patch16_64")
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    backbone = backbones.build(tiny_vit, weights="imagenet", frozen_statistics=True)
    assert torch.equal(backbone.patch.weight, state["conv_proj.weight"]) and asked == [("vit_tiny_patch16_64", True)]

    def offline(name: str, pretrained: bool) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=offline))
    with pytest.raises(
        WrongInput, match=r"of tiny_vit could not be fetched \(no route.* such as model.safetensors of timm's vit_t"
    ):
        backbones.build(tiny_vit, weights="imagenet", frozen_statistics=True)


def test_a_network_of_one_stride_is_built_with_it_where_none_is_asked_for(monkeypatch) -> None:
    monkeypatch.setattr("tests.tiny_vit.TinyViT.output_strides", (14,))
    assert backbones.build(tiny_vit, frozen_statistics=True).output_strides == (14,)
    with pytest.raises(WrongInput, match="the output stride of backbone tiny_vit is 14, not 16"):
        backbones.build(tiny_vit, stride=16, frozen_statistics=True)


def test_a_transformer_learns_classes_through_the_pooling_of_cam() -> None:
    torch.manual_seed(0)
    network = cam.network(Settings({"backbone.name": tiny_vit, "backbone.weights": "none"}), ("red", "blue"))
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]).repeat(4, 1)
    images = torch.randn(len(labels), 3, 48, 80) / 4
    images[:, 0, :, :32] += 3 * labels[:, :1, None]
    images[:, 2, :, 48:] += 3 * labels[:, 1:, None]
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(60):
        loss = cam.classification_loss(network(images), labels, "bce")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1  # 0.69 is chance
    pair = torch.stack([images[0], images[0].flip(-1)])
    assert cam.class_maps(network.features(pair), network.weights).shape == (2, 3, 5)
