"""What all segmenters share in training: examples, losses, schedules and parameter groups, against the public codes' vectors."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from backbones import resnet, swin
from imagesets import colour
from imagesets.crops import Crop
from imagesets.errors import WrongInput
from imagesets.rescaling import Between, Fitted, OneOf, fitted
from imagesets.transforms import normalise
from orchestrator.engine.context import settings_of
from orchestrator.planning.experiment import Request, experiment
from segmentation import deeplab_v3plus, large_field_of_view
from segmentation.large_field_of_view import seam_head
from segmentation.learning import MaskObjective
from segmentation.losses import averaged_cross_entropy, cross_entropy
from segmentation.masked_crop import MaskedCrop, fitted_crop, is_varied, scaled_crop
from segmentation.parameter_groups import by_part, with_faster_head
from segmentation.schedules import staircase, warmed_up
from segmentation.segmenter import FCNHead, Segmenter, build_backbone
from segmentation.upernet import UperHead
from tests.test_segmentation_deeplab_v2 import striped_images
from training.optimisers import poly
from training.stage import Context, Settings

GOLDEN = Path(__file__).parent / "golden"
RATES = json.loads((GOLDEN / "lr_schedules.json").read_text())
SEAM = np.load(GOLDEN / "augment_seam.npz")


@pytest.mark.parametrize(("rule", "expected"), [("valid", "ce_mean_valid"), ("all", "mmseg_ce_mean_all_pixels")])
def test_cross_entropy_is_averaged_by_each_public_rule(rule: str, expected: str) -> None:
    golden = np.load(GOLDEN / "losses.npz")
    loss = averaged_cross_entropy(torch.from_numpy(golden["logits"]), torch.from_numpy(golden["label"]), rule)
    np.testing.assert_allclose(loss, golden[expected], rtol=1e-5)


def test_one_public_code_divides_by_the_batch_once_more_and_the_sum_is_the_mean_times_the_pixels() -> None:
    golden = np.load(GOLDEN / "losses.npz")
    logits, label = torch.from_numpy(golden["logits"]), torch.from_numpy(golden["label"])
    np.testing.assert_allclose(averaged_cross_entropy(logits, label, "batch"), golden["jfzhang_ce_batch_averaged"], rtol=1e-5)
    np.testing.assert_allclose(cross_entropy(logits, label) * golden["n_valid"], golden["ce_sum"], rtol=1e-5)


@pytest.mark.parametrize("rule", ["valid", "all", "batch"])
def test_a_crop_that_is_all_void_costs_nothing_and_moves_nothing(rule: str) -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = averaged_cross_entropy(logits, torch.full((1, 4, 4), 255, dtype=torch.uint8), rule)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and logits.grad.abs().max() == 0


@pytest.mark.parametrize(
    ("name", "schedule", "first"),
    [
        ("kazuto_voc", staircase(20_000), 1),
        ("seam_voc", poly(20_001), 0),
        ("jfzhang_voc", poly(50 * 661), 0),
        ("recurseed", poly(1000), 0),
        ("mmseg_swin_voc40k", warmed_up(40_000, power=1.0, warm_up=1500), 0),
        ("mmseg_sgd20k", warmed_up(20_000, floor=0.01), 0),
        ("irn_poly_optimizer", poly(3310), 0),
    ],
)
def test_schedules_have_the_published_rates(name: str, schedule: Any, first: int) -> None:
    """`first` is the number that the table gives the first update; past the last update public codes stand still."""
    params = RATES[name]["params"]
    last = params.get("max_iterations", params.get("max_step", 10**9))
    for update, rates in RATES[name]["values"].items():
        if (step := int(update) - first) < last:
            factors = np.array(params.get("group_multipliers", [1.0]))
            np.testing.assert_allclose(params["base_lr"] * factors * schedule(step), rates, rtol=1e-9, err_msg=update)


def test_the_head_of_deeplabs_is_faster_and_its_biases_do_not_decay() -> None:
    head = seam_head(4, 2, 3)
    groups = with_faster_head(nn.Linear(2, 2), head, 0.1, 5e-4)
    assert [group["lr"] for group in groups] == pytest.approx([0.1, 1.0, 2.0])
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-4, 0.0]
    assert {id(value) for group in groups[1:] for value in group["params"]} == {
        id(value) for value in head.parameters() if value.requires_grad
    }


def test_norms_and_position_tables_of_swin_do_not_decay_and_all_else_does() -> None:
    with torch.device("meta"):
        backbone = swin.swin_t(stride=32, dilated=False, frozen_statistics=False)
        network = Segmenter(backbone, UperHead(backbone.channels, 3, 8), FCNHead(384, 3, 4))
    groups = by_part(network, 6e-5, 2.0, 0.01)
    free = {name for name, value in network.named_parameters() if any(value is own for own in groups[1]["params"])}
    layer_norms = {name for name, module in network.named_modules() if isinstance(module, nn.LayerNorm)}
    assert {name for name in free if "relative_position_bias_table" not in name} == {
        f"{name}.{part}" for name in layer_norms for part in ("weight", "bias")
    }
    assert sum("relative_position_bias_table" in name for name in free) == 12
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0, 0.01]
    assert [group["lr"] for group in groups] == [6e-5, 6e-5, 12e-5]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_only_the_last_convolution_of_seams_deeplabv3plus_is_faster(tmp_path: Path) -> None:
    items, masks = striped_images(tmp_path, 2)
    small = ("backbone=small", "weights=none", "width=8", "low_width=4", "batch=2", "crop=32")
    assignments = tuple(f"deeplabv3plus.{setting}" for setting in small)
    wanted = experiment(Request("supervised", "folder:x", "deeplabv3plus-seam", assignments=assignments))
    (stage,) = (stage for stage in wanted.stages if stage.recipe.writes == "segmenter")
    context = Context(settings_of(stage.settings), ("a", "b"), tuple(items), (), torch.device("cpu"), {"masks": masks})
    made = deeplab_v3plus.training(context)
    rates = {id(value): group["lr"] for group in made.optimiser.param_groups for value in group["params"]}
    found = {name: rates[id(value)] for name, value in made.network.named_parameters()}
    last = {name for name, rate in found.items() if rate == pytest.approx(0.07)}
    assert last == {"decoder.merge.4.weight", "decoder.merge.4.bias"}
    assert {rate for name, rate in found.items() if name not in last} == {0.007}


@pytest.mark.parametrize(("name", "corners"), [("resnet38d", True), ("resnet38d-mctformer", False)])
def test_the_large_field_of_view_of_seam_alone_learns_with_aligned_corners(tmp_path: Path, name: str, corners: bool) -> None:
    items, masks = striped_images(tmp_path, 2)
    assignments = tuple(f"resnet38d.{setting}" for setting in ("backbone=small", "weights=none", "width=8"))
    wanted = experiment(Request("supervised", "folder:x", name, assignments=assignments))
    (stage,) = (stage for stage in wanted.stages if stage.recipe.writes == "segmenter")
    context = Context(settings_of(stage.settings), ("a", "b"), tuple(items), (), torch.device("cpu"), {"masks": masks})
    assert large_field_of_view.training(context).objective.align_corners is corners


class Decoders(nn.Module):
    """A segmenter whose logits are its parameters."""

    def __init__(self, *sizes: tuple[int, int]) -> None:
        super().__init__()
        self.found = nn.ParameterList(torch.randn(2, 3, *size) for size in sizes)

    def in_training(self, images: torch.Tensor) -> list[torch.Tensor]:
        return list(self.found)


@pytest.mark.parametrize("corners", [False, True])
def test_the_objective_is_the_loss_of_enlarged_logits_and_a_share_of_the_auxiliary_one(corners: bool) -> None:
    network, label = Decoders((4, 5), (2, 3)), torch.randint(0, 3, (2, 16, 20), dtype=torch.uint8)
    losses, outputs = MaskObjective(network, "all", 0.4, corners)({"image": label, "label": label}, 0)  # type: ignore[arg-type]
    for name, weight, logits in zip(("cross_entropy", "auxiliary"), (1, 0.4), network.found, strict=True):
        large = nn.functional.interpolate(logits, (16, 20), mode="bilinear", align_corners=corners)
        torch.testing.assert_close(losses[name], weight * nn.functional.cross_entropy(large, label.long()))
    assert outputs["logits"] is network.found[0]
    assert list(MaskObjective(Decoders((4, 5)))({"image": label, "label": label}, 0)[0]) == ["cross_entropy"]  # type: ignore[arg-type]


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    items, masks = striped_images(tmp_path, 4)
    sample = MaskedCrop(masks, 1, 64, OneOf([1.0]))
    with pytest.raises(WrongInput, match="image 0 holds label 1; there are 1 labels"):
        sample(items[0], np.random.default_rng(0))
    masks["0"]["label"] = masks["0"]["label"][:9]
    with pytest.raises(WrongInput, match=r"mask of image 0 has the size \(9, 64\)"):
        sample(items[0], np.random.default_rng(0))


def test_an_example_is_at_one_of_the_scales(tmp_path: Path) -> None:
    (item, *_), masks = striped_images(tmp_path, 4)
    sample = MaskedCrop(masks, 3, 64, OneOf([0.5, 0.75]), top_left=True)
    covered = {int((sample(item, np.random.default_rng(seed))["label"] != 255).sum()) for seed in range(8)}
    assert covered == {30 * 32, 45 * 48}  # without the void rows of the image of 64 x 64


def fixed(*draws: float, integers: tuple[int, ...] = (), mirror: bool = False) -> Any:
    """A generator whose draws are given."""
    uniform, whole = iter(draws), iter(integers)
    return SimpleNamespace(
        uniform=lambda *_: next(uniform), integers=lambda *_, **__: next(whole), random=lambda: 0.0 if mirror else 1.0
    )


@pytest.mark.parametrize(
    ("case", "shift", "flip", "scale", "side", "begin"),
    [(0, (4, -6, 10), True, 0.85, 48, (3, 1)), (1, (-10, 3, -2), False, 1.3, 56, (1, 35))],
)
def test_examples_of_seams_segmenter_are_the_golden_ones(
    case: int, shift: tuple[int, ...], flip: bool, scale: float, side: int, begin: tuple[int, int]
) -> None:
    turned = slice(None, None, -1 if flip else 1)  # the public code mirrors before it rescales, ours afterwards
    recoloured = colour.with_shift(SEAM[f"image_rgb{case}"], shift)
    assert np.array_equal(recoloured, SEAM[f"after_hsv{case}"])
    image, label = np.ascontiguousarray(recoloured[:, turned]), np.ascontiguousarray(SEAM[f"label{case}"][:, turned])
    image, label = Between((0.5, 1.5))(image, label, fixed(scale))
    assert np.array_equal(image, SEAM[f"after_scale_image{case}"]) and np.array_equal(label, SEAM[f"after_scale_label{case}"])
    crop = Crop.drawn(label.shape, side, fixed(integers=begin))
    assert np.array_equal(crop.label(label), SEAM[f"out_label{case}"])
    found = crop.normalised(crop.seen(image)).transpose(1, 2, 0)
    np.testing.assert_allclose(found, SEAM[f"out_image_hwc{case}"], atol=1e-5)


@pytest.mark.parametrize("factor", [0.61, 0.85, 1.37])
def test_seams_segmenter_rescales_labels_by_the_factor_itself(factor: float) -> None:
    label = np.random.default_rng(0).integers(0, 21, (83, 127), np.uint8)
    expected = cv2.resize(label, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(Between((0.5, 1.5))(label[..., None].repeat(3, 2), label, fixed(factor))[1], expected)


def test_every_rule_of_colours_keeps_the_form_and_follows_its_generator() -> None:
    rgb = SEAM["image_rgb0"]
    for rule in filter(None, colour.RULES.values()):
        first, second, other = (rule(rgb, np.random.default_rng(seed)) for seed in (0, 0, 1))
        assert first.shape == rgb.shape and first.dtype == np.uint8
        assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert pickle.loads(pickle.dumps(colour.RULES)) == colour.RULES


def test_distortion_changes_brightness_contrast_saturation_and_hue_within_its_bounds() -> None:
    grey = np.full((2, 2, 3), 100, np.uint8)  # without colour, so saturation and hue leave it as it is
    found = {int(colour.distorted(grey, np.random.default_rng(seed))[0, 0, 0]) for seed in range(400)}
    assert min(found) >= (100 - 32) * 0.5 - 1 and max(found) <= (100 + 32) * 1.5 and 100 in found
    assert max(found) > 150 and min(found) < 60
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 200
    green = {int(colour.distorted(red, np.random.default_rng(seed))[0, 0, 1]) for seed in range(400)}
    assert 0 in green and max(green) > 50  # another hue


@pytest.mark.parametrize(
    ("counts", "varied"),
    [((40, 40, 20), True), ((74, 26), True), ((75, 25), False), ((90, 10), False), ((50,), False), ((), False)],
)
def test_a_crop_is_varied_if_no_class_has_three_quarters_of_it(counts: tuple[int, ...], varied: bool) -> None:
    label = np.repeat([*range(len(counts)), 255], [*counts, 300]).astype(np.uint8)  # void does not count
    assert is_varied(label, 0.75) == varied


def test_crops_are_drawn_until_they_show_several_classes() -> None:
    label = np.zeros((32, 200), np.uint8)
    label[:, 100:] = 1
    sample = MaskedCrop({}, 2, 32, Fitted((0, 0), (1.0, 1.0)), largest_class=0.75)
    shares = [sample._drawn(label, np.random.default_rng(seed))[1].mean() for seed in range(40)]
    plain = [Crop.drawn(label.shape, 32, np.random.default_rng(seed)).label(label).mean() for seed in range(40)]
    assert sum(0.25 < share < 0.75 for share in shares) > 2 * sum(0.25 < share < 0.75 for share in plain) > 0


def test_a_crop_that_shows_one_class_is_drawn_again_ten_times(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Crop] = []
    draw = Crop.drawn
    monkeypatch.setattr(Crop, "drawn", lambda *arguments: drawn.append(draw(*arguments)) or drawn[-1])
    sample = MaskedCrop({}, 2, 32, Fitted((0, 0), (1.0, 1.0)), largest_class=0.75)
    sample._drawn(np.zeros((32, 200), np.uint8), np.random.default_rng(0))
    assert len(drawn) == 1 + 10


def test_mmsegmentation_recolours_the_crop_and_seams_segmenter_the_whole_image(tmp_path: Path) -> None:
    (item, *_), masks = striped_images(tmp_path, 4)
    values = {"fit": [0, 0], "scale_range": [0.75, 0.75], "colour": "photometric", "largest_class": 1.0, "crop": 32}
    context = Context(Settings(values), ("a", "b"), (), (), torch.device("cpu"), {"masks": masks})
    for make, expected in ((fitted_crop, (32, 32, 3)), (scaled_crop, (64, 64, 3))):
        seen: list[tuple[int, ...]] = []
        example = replace(make(context), recolour=lambda rgb, rng, seen=seen: seen.append(rgb.shape) or np.zeros_like(rgb))
        assert (example(item, np.random.default_rng(0))["image"] < -1).all() and seen == [expected]


@pytest.mark.parametrize(
    ("size", "scale", "expected"), [((375, 500), 1.0, (512, 683)), ((375, 500), 0.5, (256, 341)), ((100, 1000), 1.0, (205, 2048))]
)
def test_an_image_is_fitted_as_mmcv_fits_it(size: tuple[int, int], scale: float, expected: tuple[int, int]) -> None:
    assert fitted(size, (2048, 512), scale) == expected
    assert fitted(size, (0, 0)) == size


def test_an_example_is_normalised_and_its_surroundings_are_zero(tmp_path: Path) -> None:
    (item, *_), masks = striped_images(tmp_path, 4)
    example = MaskedCrop(masks, 3, 80, Fitted((0, 0), (1.0, 1.0)), top_left=True)(item, fixed(1.0))
    np.testing.assert_allclose(example["image"][:, :64, :64], normalise(item.rgb()), atol=1e-6)
    assert not example["image"][:, 64:].any() and (example["label"][:, 64:] == 255).all()


@pytest.mark.parametrize("mirror", [False, True])
def test_mmsegmentation_pads_an_image_that_is_mirrored_on_the_right(tmp_path: Path, mirror: bool) -> None:
    (item, *_), masks = striped_images(tmp_path, 4)
    settings = Settings({"fit": [0, 0], "scale_range": [1.0, 1.0], "colour": "none", "largest_class": 1.0, "crop": 80})
    context = Context(settings, ("a", "b"), (), (), torch.device("cpu"), {"masks": masks})
    label = fitted_crop(context)(item, fixed(1.0, mirror=mirror))["label"].numpy()
    assert (label[:, 64:] == 255).all() and np.array_equal(label[:64, :64], masks[item.id]["label"][:, :: -1 if mirror else 1])


def test_the_backbones_batch_norms_are_constants_where_they_should_be() -> None:
    for weights, frozen, trains in (("imagenet", True, False), ("imagenet", False, True), ("none", True, True)):
        settings = Settings({"backbone": resnet.small, "weights": weights})
        backbone = build_backbone(settings, "none", frozen, stride=16).train()
        norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms and all(module.training == trains and module.weight.requires_grad == trains for module in norms)
    backbone = build_backbone(Settings({"backbone": resnet.small, "weights": "imagenet"}), "none", True, True, stride=16).train()
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(module.training and not module.weight.requires_grad for module in norms)  # HFPL's training
