"""PMM: the golden vectors of the public code, and what must hold for windows, masks and pretended under-fitting."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maps.maps import Maps
from maps.reading import as_they_are
from methods import pmm
from methods.pmm import Windows
from orchestrator.planning.components import components
from orchestrator.planning.expression import expand
from orchestrator.planning.recipes import find, load_all
from orchestrator.planning.settings import layered
from orchestrator.planning.stage import Stage
from refiners import crf, ppmg
from segmentation.under_fitting import RULES, under_fitted_cross_entropy
from tests.golden_vectors import golden


def arrays(name: str) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in golden(name).items()}


def test_the_windows_of_an_image_are_the_golden_ones() -> None:
    data = arrays("pmm_multicrop")
    width, height = data["img_wh"].tolist()
    windows = Windows(data["scales"].tolist(), int(data["crop_size"]), int(data["stride"]))
    assert np.array_equal(np.array(windows.boxes((height, width)))[:, [1, 0, 3, 2]], data["boxes"][:, 1:])


def test_the_labels_of_windows_are_the_golden_ones() -> None:
    data = arrays("pmm_multicrop")
    for box, expected in zip(data["crop_params"], data["crop_labels"], strict=True):
        labels = np.zeros_like(expected)
        labels[data["heat_keys"][1:] - 1] = pmm.shown(data["heat"][1:] > pmm.SURE, box[[1, 0, 3, 2]])
        assert np.array_equal(labels, expected)


def test_merged_windows_are_the_golden_maps() -> None:
    data = golden("pmm_multicrop")
    boxes = [(y, x, y + height, x + width) for x, y, width, height in data["merge_locations"].tolist()]
    classes, *size = data["merged"].shape
    sizes = [classes * width * height for _, _, width, height in data["merge_locations"].tolist()]
    maps = [
        part.reshape(classes, bottom - top, right - left)
        for part, (top, left, bottom, right) in zip(data["merge_crops"].float().split(sizes), boxes, strict=True)
    ]
    torch.testing.assert_close(pmm.merged(tuple(size), boxes, maps), data["merged"], rtol=0, atol=1e-5)


@given(st.integers(2, 900), st.integers(2, 900), st.sampled_from([0.5, 0.75, 1.0, 2.0, 3.0]), st.integers(16, 500))
def test_windows_lie_in_the_image_and_cover_it_if_they_overlap(height: int, width: int, scale: float, side: int) -> None:
    covered, windows = np.zeros((height, width), bool), Windows([scale], side, side)
    boxes = windows.boxes((height, width))
    assert {(left, top, right, bottom) for top, left, bottom, right in boxes} == {*windows.boxes((width, height))}
    for top, left, bottom, right in boxes:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        covered[top:bottom, left:right] = True
    assert covered[: max(1, height - 1), : max(1, width - 1)].all()  # a scaled image that is rounded down has no last pixel


def test_a_class_without_sure_pixels_and_one_of_a_tenth_are_in_no_window() -> None:
    assert not pmm.shown(np.zeros((2, 4, 4), bool), (0, 0, 4, 4)).any()
    sure = np.zeros((1, 20, 20), bool)
    sure[0, 0, :10] = sure[0, 10:19, :10] = True
    assert not pmm.shown(sure, (0, 0, 10, 10)).any()
    sure[0, 1, 0] = True
    assert pmm.shown(sure, (0, 0, 10, 10)).all()


def test_maps_are_what_the_network_finds_in_the_windows_and_their_mirror_images() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)
    item: Any = SimpleNamespace(id="it", labels=(1, 4), rgb=lambda: rgb)
    network = SimpleNamespace(maps=lambda images, keys: (None, 3 + torch.cat([images[:, :1], images[:, : keys.shape[1]]], 1)))
    settings = SimpleNamespace(window_scales=[1.0], window=16, window_stride=16, crop=16)
    where: Any = SimpleNamespace(settings=settings, inputs={"network": network}, device=torch.device("cpu"))
    found = Maps.of(pmm.maps(where)(item), as_they_are)
    planes = rgb[..., :2].transpose(2, 0, 1).astype(np.float32)
    low, high = (extreme(planes, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
    assert found.keys.tolist() == [1, 4]
    np.testing.assert_allclose(found.full().numpy(), (planes - low) / (high - low), atol=2e-3)


@pytest.mark.parametrize(("heat", "labels"), [(None, [1, 0, 1]), ("sure", [0, 0, 1])])
def test_a_window_has_the_labels_of_its_heat_or_of_its_image(heat: str | None, labels: list[int]) -> None:
    sure = np.zeros((2, 6, 8), bool)
    sure[1, 2:4, 2:4] = True
    records = {"it": {"sure": np.packbits(sure)}} if heat else None
    item: Any = SimpleNamespace(
        id="it", labels=(0, 2), rgb=lambda: np.zeros((6, 8, 3), np.uint8), multi_hot=lambda classes: np.float32([1, 0, 1])
    )
    made = pmm.LabelledWindow(Windows([1.0], 100, 50), 32, "none", 3, records)(item, np.random.default_rng(0))
    assert made["labels"].tolist() == labels and made["image"].shape == (4, 32, 32)


def test_a_window_is_resized_without_overshooting() -> None:
    rgb = np.full((40, 60, 3), 200, np.uint8)
    rgb[:, 20:] = 50
    seen = pmm.cut(rgb, (10, 10, 30, 30), 64)
    assert seen.shape == (64, 64, 3) and seen.min() == 50 and seen.max() == 200  # bilinear; bicubic goes beyond both
    assert np.array_equal(pmm.cut(rgb, (10, 10, 30, 30), 20), rgb[10:30, 10:30])


def windows_of_training(scales: list[float], sure: np.ndarray | None) -> list[tuple[Any, np.ndarray]]:
    """300 drawn windows of an image of 90x90 with the class 1, and their labels."""
    records = None if sure is None else {"it": {"sure": np.packbits(sure)}}
    item: Any = SimpleNamespace(id="it", labels=(1,), multi_hot=lambda classes: np.float32([0, 1]))
    sample, rng = pmm.LabelledWindow(Windows(scales, 30, 30), 32, "none", 2, records), np.random.default_rng(0)
    return [sample._drawn(item, (90, 90), rng) for _ in range(300)]


def test_every_scale_is_drawn_as_often_however_many_windows_it_has() -> None:
    found = windows_of_training([0.5, 1.0, 3.0], sure=None)  # of 4, 9 and 81 windows
    sides = [bottom - top for (top, _, bottom, _), _ in found]
    assert all(80 <= sum(side == own for side in sides) <= 120 for own in (60, 30, 10))


def test_a_window_that_shows_no_class_is_drawn_again() -> None:
    sure = np.zeros((1, 90, 90), bool)
    sure[:, :5, :5] = True  # in one of 9 windows
    found = windows_of_training([1.0], sure)
    assert all((box[:2] == (0, 0)) == labels.any() for box, labels in found)
    assert 170 <= sum(labels.any() for _, labels in found) <= 220  # 1 - (8/9)^9 of 300 are 196; without a second draw 33


def test_smoothing_backgrounds_and_masks_are_the_golden_ones() -> None:
    data = arrays("pmm_ppmg")
    threshold, scale, alpha = (float(data[name]) for name in ("cam_thresh", "cv_scale", "alpha"))
    maps = data["cams"]
    np.testing.assert_allclose([ppmg.variation(own, threshold, scale) for own in maps], data["cov"], rtol=1e-5)
    smooth = np.stack([ppmg.smoothed(own, threshold, scale) for own in maps])
    background = ppmg.background(smooth, alpha)
    np.testing.assert_allclose(smooth[:, ::2, ::2], data["smoothed_fg"], atol=1e-5)
    np.testing.assert_allclose(background[:, ::2, ::2], data["bg_score"], atol=1e-5)
    stub = ppmg.proportional(maps, smooth / (background + smooth) > 0.5, data["keys"])
    assert (stub != data["label_stub"]).mean() <= 5e-4
    parameters = crf.Parameters(**load_all()["crf"].table["pmm"])
    found = np.stack([crf.soft(data["img_bgr"], np.stack(both), parameters)[1] for both in zip(background, smooth, strict=True)])
    np.testing.assert_allclose(found[:, ::2, ::2], data["crf_fg"].astype(np.float32), atol=5e-3)
    assert (ppmg.proportional(maps, found > 0.5, data["keys"]) != data["label_crf"]).mean() <= 5e-3


def test_a_map_of_one_value_is_not_smoothed() -> None:
    assert ppmg.variation(np.full((3, 4), 0.5), 0.05, 0.3) == 0
    assert ppmg.variation(np.zeros((3, 4)), 0.05, 0.3) == 0


def test_a_map_that_varies_more_than_its_mean_keeps_its_zeros_and_its_maximum() -> None:
    values = np.zeros((20, 20), np.float16)
    values[:2], values[0, 0] = 0.01, 1
    assert ppmg.variation(values, 0.0, 1.0) > 1
    smooth = ppmg.smoothed(values, 0.0, 1.0)
    assert not smooth[2:].any() and (smooth[:2] == 1).all() and smooth.dtype == np.float32


def test_a_value_that_equals_the_threshold_in_its_own_precision_is_kept() -> None:
    values = np.array([[0.0499, 0.05, 0.7]], np.float16)
    assert (ppmg.smoothed(values, 0.05, 0.3) > 0).tolist() == [[False, True, True]]
    assert ppmg.variation(values, 0.05, 0.3) == 0  # one value is above the threshold


def test_the_maps_of_a_run_are_compared_in_half_precision_as_the_code_stores_them() -> None:
    item: Any = SimpleNamespace(id="it", rgb=lambda: np.zeros((2, 2, 3), np.uint8))
    full = torch.tensor([[[0.05, 0.05], [0.05, 0.05]]], dtype=torch.float16).float()
    maps = SimpleNamespace(keys=[3], size=(2, 2), full=lambda: full)
    parameters = load_all()["crf"].table["pmm"]
    settings = SimpleNamespace(threshold=0.05, smoothing=0.0, alpha=0.5, crf=parameters)
    seen: list[np.ndarray] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crf, "soft", lambda rgb, both, parameters: seen.append(both) or both)
        ppmg.masks(SimpleNamespace(settings=settings, inputs={"maps": {"it": maps}}))(item)  # type: ignore[arg-type]
    np.testing.assert_allclose(seen[0][1], np.float32(np.float16(0.05)))


def test_an_overlap_goes_to_the_class_of_the_smaller_region() -> None:
    maps, everywhere = np.full((2, 4, 4), 0.5, np.float32), np.ones((4, 4), bool)
    corner = np.zeros((4, 4), bool)
    corner[:2, :2] = True
    label = ppmg.proportional(maps, [everywhere, corner], [3, 7])
    assert (label[corner] == 8).all() and (label[~corner] == 4).all()


@pytest.mark.parametrize("level", ["low", "high"])
@pytest.mark.parametrize("rule", RULES)
def test_pretended_under_fitting_is_the_golden_one(level: str, rule: str) -> None:
    data = golden("pmm_pus")
    logits = data[f"pred_{level}"].requires_grad_()
    loss = under_fitted_cross_entropy(logits, data["label"], rule)
    torch.testing.assert_close(loss, data[f"loss_{level}_{rule}"], rtol=1e-5, atol=0)
    if (expected := data.get(f"grad_{level}_{rule}")) is not None:
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (gradient - expected).abs().max() <= 1e-4 * expected.abs().max()


def stages(expression: str, segmenter: str = "pspnet", **values: Any) -> dict[str, Stage]:
    settings = layered(find("shapes", ("images",))[0], [{name.replace("__", "."): value for name, value in values.items()}])
    return {stage.name: stage for stage in expand(components(expression, segmenter), settings)}


def test_isl_is_in_the_multi_scale_stage_alone_and_fsl_in_both() -> None:
    plan = stages("pmm+isl+fsl")
    assert list(plan["pmm-network"].add_ons) == ["isl", "fsl"]
    assert list(plan["pmm-crop-network"].add_ons) == ["fsl"]


def test_windows_with_the_labels_of_their_images_need_no_multi_scale_stage() -> None:
    plan = stages("pmm", pmm__crop_labels="image")
    assert "pmm-crop-network" in plan and not {"pmm-network", "pmm-scale-maps", "pmm-heat"} & set(plan)


def test_cyclic_pseudo_masks_train_the_segmenter_twice() -> None:
    plain, cyclic = stages("pmm"), stages("pmm", pspnet__cyclic=True, pspnet__under_fitting="clamp")
    assert "pspnet-first-segmenter" not in plain
    assert cyclic["pspnet-segmenter"].inputs["masks"].name == "pspnet-masks"
    assert cyclic["pspnet-masks"].inputs["segmenter"].name == "pspnet-first-segmenter"
    assert cyclic["pspnet-first-segmenter"].inputs["masks"].name == "ppmg-masks"
