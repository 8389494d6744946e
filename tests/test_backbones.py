"""Backbones: strides, freezing, weights, and a torchvision that cannot load its operators."""

import json
import os
import subprocess
import sys
import zlib
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import backbones
from backbones.mobilenet import mobilenetv2
from backbones.resnet import resnet18, resnet50, small
from backbones.vision_models import models
from imagesets.errors import WrongInput
from orchestrator.planning.recipes import entries, load_all
from orchestrator.planning.references import resolve
from tests.backbone_contract import Architecture, Contract, outline

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]
ARCHITECTURES = [resolve(reference) for reference in entries("backbone").values()]
LARGE = 5_000_000  # parameters


def as_parameter(architecture: Architecture) -> object:
    """Large architectures go to the slow tier; the fast tier has a small one of each kind."""
    large = sum(value.numel() for value in outline(architecture).parameters()) > LARGE
    return pytest.param(architecture, id=architecture.__name__, marks=[pytest.mark.slow] if large else [])


class TestEveryBackboneOfTheTables(Contract):
    @pytest.fixture(params=map(as_parameter, ARCHITECTURES))
    def architecture(self, request: pytest.FixtureRequest) -> Architecture:
        return request.param


@pytest.mark.parametrize(
    "recipe", [recipe for recipe in load_all().values() if recipe.kind == "backbone"], ids=lambda recipe: recipe.name
)
def test_a_recipe_tells_the_parts_and_what_its_backbones_provide(recipe):
    assert set(recipe.provides) <= {"five-taps", "pyramid", "dilation", "drop-path", "tokens"}
    for entry in recipe.table.values():
        backbone = outline(resolve(entry))
        coarsest = outline(resolve(entry), max(backbone.output_strides))
        assert (coarsest.strides[-4:] == (4, 8, 16, 32)) == ("pyramid" in recipe.provides)
        assert ("drop_path" in signature(resolve(entry)).parameters) == ("drop-path" in recipe.provides)
        assert tuple(backbone.parts()) == recipe.parts and backbone.output_strides == recipe.strides
        assert (len(backbone.strides) == 5 and backbone.strides[:2] == (4, 4)) == ("five-taps" in recipe.provides)
        assert (8 in backbone.output_strides) == ("dilation" in recipe.provides)
        assert isinstance(backbone, backbones.TokenBackbone) == ("tokens" in recipe.provides)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet38d", "resnet38d_backbone"),
        ("swin_t", "swin_tiny_backbone_with_output_norms"),
        ("swin_s", "swin_small_backbone_with_output_norms"),
        ("swin_b", "swin_base_backbone_with_output_norms"),
    ],
)
def test_parameters_and_statistics_are_as_many_as_in_the_public_code(name, published):
    backbone = outline(resolve(entries("backbone")[name]))
    statistics = sum(value.numel() for name, value in backbone.named_buffers() if "running" in name)
    facts = json.loads((GOLDEN / "architecture_facts.json").read_text())["parameter_counts"]
    assert [sum(value.numel() for value in backbone.parameters()), statistics] == facts[published]


# (output stride, rule) -> the dilation of the first spatial convolution and of all others, in the stages that reach /16 and /32
DILATIONS = {
    (8, False): ((1, 1), (1, 1)),
    (8, True): ((1, 2), (2, 4)),
    (8, "uniform"): ((2, 2), (4, 4)),
    (16, False): ((1, 1), (1, 1)),
    (16, True): ((1, 1), (1, 2)),
    (16, "uniform"): ((1, 1), (2, 2)),
    (32, False): ((1, 1), (1, 1)),
    (32, True): ((1, 1), (1, 1)),
    (32, "uniform"): ((1, 1), (1, 1)),
    (8, "recurseed"): ((1, 2), (1, 4)),
    (16, "recurseed"): ((1, 1), (1, 2)),
}


@pytest.mark.parametrize(
    "architecture",
    [as_parameter(architecture) for architecture in ARCHITECTURES if {8, 16, 32} <= {*outline(architecture).output_strides}],
)
def test_every_spatial_convolution_is_dilated_by_the_rule(architecture):
    for (stride, rule), expected in DILATIONS.items():
        with torch.device("meta"):
            backbone = architecture(stride=stride, dilated=rule, frozen_statistics=True)
        parts = {name: [module for part in members for module in part.modules()] for name, members in backbone.parts().items()}
        found = {
            name: [module for module in modules if isinstance(module, nn.Conv2d) and module.kernel_size > (1, 1)]
            for name, modules in parts.items()
        }
        for name, (first, others) in zip(("layer3", "layer4"), expected, strict=True):
            dilations = [convolution.dilation for convolution in found[name]]
            assert dilations == [(first, first), *[(others, others)] * (len(dilations) - 1)], (stride, rule, name)
            for convolution in (plain for plain in found[name] if type(plain) is nn.Conv2d):  # others fill up as they need it
                assert convolution.padding[0] == convolution.dilation[0] * (convolution.kernel_size[0] // 2)
            kept = stride >= {"layer3": 16, "layer4": 32}[name]
            halving = [module for module in parts[name] if isinstance(module, nn.Conv2d) and module.stride != (1, 1)]
            assert bool(halving) == kept, (stride, rule, name)
        assert all(convolution.dilation == (1, 1) for name in ("layer1", "layer2") for convolution in found[name])


def test_freezing_up_to_layer2_leaves_the_last_two_stages():
    backbone = backbones.build(resnet18, frozen_statistics=True)
    backbone.freeze("layer2")
    assert {name.split(".")[0] for name, value in backbone.named_parameters() if value.requires_grad} == {"layer3", "layer4"}


def seeded_by_name(shapes: dict[str, tuple[int, ...]], tag: int) -> dict[str, torch.Tensor]:
    """The golden vectors' rule: weights drawn by parameter name, so that any code with these names rebuilds them."""
    state = {}
    for name, shape in shapes.items():
        draw = np.random.RandomState(zlib.crc32(name.encode()) ^ tag)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            value = draw.uniform(0.5, 1.5, shape)
        elif name.endswith(("running_mean", "bias")):
            value = draw.standard_normal(shape) * 0.1
        elif len(shape) == 4:
            value = draw.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            value = draw.uniform(0.8, 1.2, shape) * (0.25 if name.endswith("bn3.weight") else 1)
        state[name] = torch.from_numpy(np.asarray(value, np.float32))
    return state


def test_resnet50_without_stride_in_layer4_gives_the_golden_features_and_map():
    golden = np.load(GOLDEN / "backbone_forward.npz")
    backbone = backbones.build(resnet50, stride=16, frozen_statistics=True).eval()
    shapes = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    backbone.load_state_dict(seeded_by_name(shapes, tag=17), strict=False)
    weight = seeded_by_name({"classifier.weight": (20, 2048, 1, 1)}, tag=17)["classifier.weight"]
    images = torch.from_numpy(golden["x"])
    with torch.no_grad():
        _, *features = backbone(torch.cat([images, images.flip(-1)]))
        image, mirror = nn.functional.conv2d(features[-1], weight).relu()
    found = {
        "feat_l1": features[0][0, :8],
        "feat_l2": features[1][0, :8],
        "feat_l3": features[2][0, ::64],
        "feat_l4": features[3][0, ::64],
        "feat_l4_mean": features[3].mean((2, 3)),
        "cam": image + mirror.flip(-1),
    }
    assert [list(feature.shape) for feature in features] == golden["shapes"].tolist()
    for name, value in found.items():
        np.testing.assert_allclose(value, golden[name], rtol=1e-3, atol=1e-3 * np.abs(golden[name]).max(), err_msg=name)


def test_a_stride_16_grid_is_the_size_rounded_up():
    backbone = backbones.build(small, stride=16, frozen_statistics=True).eval()
    for height, width, *grid in np.load(GOLDEN / "backbone_forward.npz")["feature_sizes"].tolist():
        with torch.no_grad():
            assert list(backbone(torch.zeros(1, 3, height, width))[-1].shape[2:]) == grid


@pytest.mark.parametrize(("architecture", "builder"), [(resnet18, models.resnet18), (resnet50, models.resnet50)])
def test_a_resnet_of_stride_32_is_torchvisions(architecture, builder):
    reference = builder(weights=None).eval()
    backbone = backbones.build(architecture, stride=32, frozen_statistics=True).eval()
    assert set(reference.state_dict()) - set(backbone.state_dict()) == {"fc.weight", "fc.bias"}
    backbone.load_state_dict(reference.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(reference.fc(backbone(images)[-1].mean((2, 3))), reference(images))


def test_dilation_is_torchvisions():
    reference = models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True]).eval()
    backbone = backbones.build(resnet50, stride=8, dilated=True, frozen_statistics=True).eval()
    backbone.load_state_dict(reference.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(reference.fc(backbone(images)[-1].mean((2, 3))), reference(images))


def test_the_last_features_are_never_negative():
    images = torch.randn(1, 3, 64, 64)
    for architecture in (small, resnet18, mobilenetv2):
        backbone = backbones.build(architecture, frozen_statistics=True).eval()
        with torch.no_grad():
            features = backbone(images)[-1]
        assert features.min() == 0 < features.max()


def test_a_local_file_is_loaded_without_its_classifier(tmp_path):
    reference = models.resnet18(weights=None)
    # older torchvision files hold no batch counters
    state = {key: value for key, value in reference.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pth")
    backbone = backbones.build(resnet18, weights=str(tmp_path / "weights.pth"), frozen_statistics=True)
    assert torch.equal(backbone.layer4[1].conv2.weight, reference.layer4[1].conv2.weight)


def test_weights_come_from_safetensors_too(tmp_path):
    first, path = backbones.build(small, frozen_statistics=True), tmp_path / "weights.safetensors"
    save_file(first.state_dict(), path)
    again = backbones.build(small, weights=str(path), frozen_statistics=True)
    assert torch.equal(again.layer4[0].conv2.weight, first.layer4[0].conv2.weight)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WrongInput, match="not a plain torch state dict: it is damaged"):
        backbones.build(small, weights=str(path), frozen_statistics=True)


def test_weights_that_do_not_fit_name_the_first_mismatches(tmp_path):
    path = str(tmp_path / "weights.pth")
    torch.save(models.resnet18(weights=None).state_dict(), path)
    with pytest.raises(
        WrongInput, match=r"\d+ of another shape \(first: layer1.0.conv1.weight \[64, 64, 3, 3\] for \[64, 64, 1, 1\]\)"
    ):
        backbones.build(resnet50, weights=path, frozen_statistics=True)
    Path(path).write_bytes(Path(path).read_bytes()[:-100])
    with pytest.raises(WrongInput, match="not a plain torch state dict"):
        backbones.build(small, weights=path, frozen_statistics=True)
    torch.save({"optimiser": {}}, path)
    with pytest.raises(WrongInput, match="not a plain state dict"):
        backbones.build(small, weights=path, frozen_statistics=True)
    torch.save({0: torch.zeros(1)}, path)
    with pytest.raises(WrongInput, match="not a plain state dict"):
        backbones.build(small, weights=path, frozen_statistics=True)
    Path(path).write_text("weights")
    with pytest.raises(WrongInput, match="not a plain torch state dict"):
        backbones.build(small, weights=path, frozen_statistics=True)
    with pytest.raises(WrongInput, match="no weights file"):
        backbones.build(small, weights=path + "x", frozen_statistics=True)


def test_imagenet_weights_that_cannot_be_fetched_say_where_to_put_the_file(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(models._api, "load_state_dict_from_url", offline)
    with pytest.raises(WrongInput, match=r"resnet50-0676ba61\.pth.*no route to host.*checkpoints, or set its path"):
        backbones.build(resnet50, weights="imagenet", frozen_statistics=True)
    with pytest.raises(WrongInput, match=r"mobilenet_v2-b0353104\.pth"):
        backbones.build(mobilenetv2, weights="imagenet", frozen_statistics=True)
    with pytest.raises(WrongInput, match="small has no ImageNet weights"):
        backbones.build(small, weights="imagenet", frozen_statistics=True)


def in_a_fresh_process(code: str, *paths: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT]))}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def torchvision_whose_import(does: str, folder: Path) -> Path:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "early.py").write_text("")
    (folder / "torchvision" / "models.py").write_text("found = True")
    (folder / "torchvision" / "__init__.py").write_text(f"import torch, torchvision.early\n{does}\n")
    return folder


@pytest.mark.slow
def test_torchvision_imports_beside_any_torch():
    done = in_a_fresh_process("from backbones.vision_models import models; print(models.resnet18(weights=None).fc.in_features)")
    assert done.stdout.strip() == "512", done.stderr


IMPORT = f"""
import runpy, torch
found = runpy.run_path({str(ROOT / "backbones" / "vision_models.py")!r})
print(found["models"].found, len(found["_declared"]), hasattr(torch.ops.torchvision, "nms"))
"""


def test_missing_operators_are_declared_and_torchvision_is_imported_afresh(tmp_path):
    # registering a shape rule for an operator is what the real package fails at
    rule = "torch.library.register_fake('torchvision::nms')(lambda boxes: boxes)"
    done = in_a_fresh_process(IMPORT, torchvision_whose_import(rule, tmp_path))
    assert done.stdout.split() == ["True", "1", "True"], done.stderr


@pytest.mark.slow
def test_a_torchvision_that_imports_is_left_alone(tmp_path):
    done = in_a_fresh_process(IMPORT, torchvision_whose_import("pass", tmp_path))
    assert done.stdout.split() == ["True", "0", "False"], done.stderr


@pytest.mark.slow
def test_another_failure_of_torchvision_is_shown(tmp_path):
    done = in_a_fresh_process(IMPORT, torchvision_whose_import("raise RuntimeError('another')", tmp_path))
    assert done.returncode != 0 and "RuntimeError: another" in done.stderr
