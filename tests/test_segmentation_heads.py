"""The decoders of the segmenters against the public codes' vectors and published sizes."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from orchestrator.engine.context import settings_of
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.references import resolve
from segmentation.deeplab_v3plus import Decoder
from segmentation.large_field_of_view import mctformer_head, seam_head
from segmentation.pyramid_pooling import PyramidPooling
from segmentation.segmenter import FCNHead
from segmentation.upernet import UperHead

GOLDEN = Path(__file__).parent / "golden"
ARCHITECTURES = json.loads((GOLDEN / "architecture_facts.json").read_text())
FACTS = ARCHITECTURES["parameter_counts"]
BRANCHES = {1: "convs.0", 2: "convs.1", 3: "convs.2", 4: "convs.3"}  # of ASPP in torchvision's names


def tensors(name: str) -> dict[str, torch.Tensor]:
    golden = np.load(GOLDEN / f"{name}.npz")
    return {name: torch.from_numpy(golden[name]) for name in golden.files}


def filled(module: nn.Module, golden: Mapping[str, torch.Tensor], *names: tuple[str, str]) -> nn.Module:
    """The module with a public code's weights, whose names become ours by patterns; nothing may be left over."""
    own = {}
    for name, value in golden.items():
        for pattern, ours in names:
            name = re.sub(pattern, ours, name)
        own[name] = value
    expected = {name for name in module.state_dict() if "num_batches" not in name}
    assert expected <= own.keys(), sorted(expected - own.keys())
    module.load_state_dict(own, strict=False)
    return module.eval()


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(found.detach(), expected, rtol=tolerance, atol=tolerance)


CONVOLUTION = (r"\.conv\.", ".0."), (r"\.bn\.", ".1.")
# RecurSeed's names of ASPP and of its decoder
RECURSEED = (
    (r"^.*aspp1\.", "aspp.convs.0."),
    (r"^.*aspp2\.", "aspp.convs.1."),
    (r"^.*aspp3\.", "aspp.convs.2."),
    (r"^.*aspp4\.", "aspp.convs.3."),
    (r"^.*global_avg_pool\.1\.conv\.", "aspp.convs.4.1."),
    (r"^.*global_avg_pool\.1\.bn\.", "aspp.convs.4.2."),
    (r"^.*block\.0\.(conv|bn)\.", r"aspp.project.\1."),
    (r"^.*low_block\.", "low."),
    (r"^.*classifier\.", "merge."),
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
)


def test_deeplabv3plus_s_decoder_is_recurseeds():
    golden = tensors("deeplabv3plus_head")
    decoder = filled(Decoder((10, 24), 5, (6, 12, 18), low=(6, 1), width=12), golden, *RECURSEED)
    close(decoder.aspp(golden["x"]), golden["aspp_out"])
    close(decoder(golden["x_low"], *[golden["x"]] * 3), golden["logits"])


def test_recurseeds_single_stage_decoder_is_the_same_with_wide_low_features():
    golden = tensors("aspp_decoder")
    decoder = filled(Decoder((4, 6), 4, (6, 12, 18), low=(5, 1), width=5), golden, *RECURSEED)
    close(decoder.aspp(golden["high"]), golden["aspp"], 2e-5)
    logits = decoder(golden["low"], *[golden["high"]] * 3)
    close(logits, golden["logits"], 2e-5)
    for mode, options in (("nearest", {}), ("bilinear", {"align_corners": False})):
        large = functional.interpolate(logits, [4 * side for side in logits.shape[2:]], mode=mode, **options)
        close(large[:, :, ::7, ::9], golden[f"up_{mode}_sub"], 2e-5)


def test_the_aspp_of_seams_code_is_the_same():
    golden = tensors("aspp_v3_seam_code")
    names = [(rf"w\|branch{number}\.", f"aspp.{own}.") for number, own in BRANCHES.items()]
    names += [
        (r"w\|branch5_conv\.", "aspp.convs.4.1."),
        (r"w\|branch5_bn\.", "aspp.convs.4.2."),
        (r"w\|conv_cat\.", "aspp.project."),
    ]
    aspp = filled(nn.ModuleDict({"aspp": Decoder((4, 12), 2, (6, 12, 18), width=8).aspp}), golden, *names)["aspp"]
    close(aspp(golden["x"]), golden["y"])


def test_the_large_field_of_view_is_seams():
    golden = tensors("seam_largefov_head")
    names = (r"w\|conv_fov\.", "0.0."), (r"w\|bn_fov\.", "0.1."), (r"w\|conv_fov2\.", "1.0."), (r"w\|bn_fov2\.", "1.1.")
    head = filled(seam_head(20, 5, 16), golden, *names, (r"w\|cls_conv\.", "3."))
    logits = functional.interpolate(
        head(golden["feature"]), golden["logits_fullres"].shape[2:], mode="bilinear", align_corners=True
    )
    close(logits, golden["logits_fullres"])


def test_the_public_code_trains_no_batch_norm_of_that_head():
    assert {name for name, value in seam_head(4, 2, 3).named_parameters() if value.requires_grad} == {
        "0.0.weight",
        "1.0.weight",
        "3.weight",
        "3.bias",
    }


def test_mctformers_head_is_two_dilated_convolutions():
    sizes = [(layer.weight.shape, layer.dilation) for layer in mctformer_head(7, 3, 5) if isinstance(layer, nn.Conv2d)]
    assert sizes == [((5, 7, 3, 3), (12, 12)), ((3, 5, 3, 3), (12, 12))]


UPERNET = (
    (r"^head\|psp_modules\.(\d)\.1\.conv\.", r"pooling.pools.\1.1."),
    (r"^head\|psp_modules\.(\d)\.1\.bn\.", r"pooling.pools.\1.2."),
    (r"^head\|bottleneck\.", "pooling.merge."),
    (r"^head\|lateral_convs\.", "lateral."),
    (r"^head\|fpn_convs\.", "smooth."),
    (r"^head\|fpn_bottleneck\.", "merge."),
    (r"^head\|conv_seg\.", "classify.1."),
    *CONVOLUTION,
)


@pytest.mark.parametrize("case", [0, 1])
def test_upernets_head_and_its_auxiliary_head_are_mmsegmentations(case: int):
    golden = tensors("uperhead")
    head = filled(UperHead((8, 12, 16, 24), 5, 12), golden, *UPERNET)
    taps = [golden[f"feat{case}_{level}"] for level in range(4)]
    pooling = head.pooling
    assert isinstance(pooling, PyramidPooling)
    for level, pooled in enumerate(pooling.pooled(taps[-1])):
        close(pooled, golden[f"ppm{case}_{level}"])
    close(pooling(taps[-1]), golden[f"psp{case}"])
    close(head(*taps), golden[f"logits{case}"])
    close(head(taps[0], *taps), golden[f"logits{case}"])  # a fifth, finer tap is not read
    names = (r"^aux\|convs\.0\.conv\.", "0."), (r"^aux\|convs\.0\.bn\.", "1."), (r"^aux\|conv_seg\.", "4.")
    close(filled(FCNHead(16, 5, 6), golden, *names)(*taps), golden[f"aux{case}"])


def built(segmenter: str, *assignments: str) -> nn.Module:
    """The segmenter's network for 20 classes at its recipe's settings, without weights (on the meta device)."""
    wanted = experiment(Request("supervised", "folder:x", segmenter, assignments=assignments))
    stage = next(stage for stage in wanted.stages if stage.recipe.writes == "segmenter")
    with torch.device("meta"):
        return resolve(stage.recipe.network)(settings_of(stage.settings), [str(number) for number in range(20)])


def size(module: nn.Module) -> list[int]:
    """The numbers of parameters and of elements of running statistics."""
    statistics = [value for name, value in module.named_buffers() if "running_" in name]
    return [sum(value.numel() for value in values) for values in (module.parameters(), statistics)]


@pytest.mark.parametrize(
    ("fact", "segmenter", "assignments"),
    [
        ("deeplabv2_resnet101_21", "deeplabv2-resnet101", ()),
        ("deeplabv2_resnet50_recurseed_21", "deeplabv2-resnet50", ()),
        ("deeplabv3plus_resnet101_recurseed_21", "deeplabv3plus-resnet101", ()),
        ("deeplabv3plus_resnet50_recurseed_21", "deeplabv3plus-resnet50", ()),
        ("deeplabv3plus_resnet101_jfzhang_21", "deeplabv3plus-resnet101", ("deeplabv3plus.last_kernel=1",)),
        ("deeplabv3plus_resnet101deep_seamcode_21", "deeplabv3plus-seam", ()),
        ("deeplabv1_resnet38d_seam_21", "resnet38d", ()),
        ("upernet_swin_tiny_total_with_aux_21", "upernet-swin", ()),
        ("upernet_swin_small_total_with_aux_21", "upernet-swin-s", ()),
        ("upernet_swin_base_total_with_aux_21", "upernet-swin-b", ()),
    ],
)
def test_a_segmenter_has_the_published_number_of_parameters(fact: str, segmenter: str, assignments: tuple[str, ...]):
    assert size(built(segmenter, *assignments)) == FACTS[fact]


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_upernets_heads_have_the_published_number_of_parameters(name: str):
    width = 128 if name == "base" else 96
    channels = [width * 2**level for level in range(4)]
    with torch.device("meta"):
        assert size(UperHead(channels, 21, 512)) == FACTS[f"uperhead_swin_{name}_21"]
        assert size(FCNHead(channels[2], 21, 256)) == FACTS[f"uper_auxhead_swin_{name}_21"]


def test_torchvisions_parts_make_a_deeplabv3plus_of_the_published_size():
    expected = ARCHITECTURES["deeplabv3plus_from_torchvision_parts"]
    for name in ("resnet101", "resnet50"):
        assert size(built(f"deeplabv3plus-{name}", "deeplabv3plus.last_kernel=1"))[0] == expected[name]


def outline(text: str) -> torch.Tensor:
    """An image without content of a size such as "375x500"."""
    return torch.empty(1, 3, *map(int, text.split("x")), device="meta")


@pytest.mark.slow
def test_the_logits_of_deeplabv2_and_upernet_lie_on_the_published_grids():
    network = built("deeplabv2-resnet101").eval()
    found = {size: list(network(outline(size)).shape[2:]) for size in ARCHITECTURES["deeplabv2_logits_size"]}
    assert found == ARCHITECTURES["deeplabv2_logits_size"]
    network = built("upernet-swin").eval()
    for size, expected in ARCHITECTURES["swin_uper_feature_sizes"].items():
        assert [list(tap.shape[1:]) for tap in network.backbone(outline(size))] == expected["stages"]
        logits, auxiliary = network.in_training(outline(size))
        assert [list(logits.shape[2:]), list(auxiliary.shape[2:])] == [expected["logits"], expected["aux"]]


def test_the_parts_of_upernets_head_have_the_published_sizes():
    with torch.device("meta"):
        head = UperHead([96, 192, 384, 768], 21, 512)
    parts = {
        "ppm": head.pooling.pools,
        "bottleneck": head.pooling.merge,
        "laterals": head.lateral,
        "fpn_convs": head.smooth,
        "fusion": head.merge,
        "classifier21": head.classify,
    }
    assert {name: size(part)[0] for name, part in parts.items()} == FACTS["uperhead_swin_tiny_parts"]
