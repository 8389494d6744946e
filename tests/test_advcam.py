from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from imagesets.views import load, pairs
from maps.maps import Maps
from maps.reading import divided_by_maximum, unit_maximum
from methods import advcam, cam, recam
from tests.two_colours import CLASSES, SHARED, context, write_items
from training.stage import Settings

FOLDER = Path(__file__).parent / "golden"
STEPS, FULL = (
    {name: torch.from_numpy(array) for name, array in np.load(FOLDER / f"advcam_{part}.npz").items()}
    for part in ("steps", "full")
)
SCALES = (1.0, 0.5, 1.5, 2.0)
CLIMB = {"iterations": 3, "step": 0.08, "regulariser": 7.0, "mask_threshold": 0.5, "classes_at_once": 4}


def features(golden: dict[str, torch.Tensor]):
    """The golden network's last feature map: four 3x3 convolutions of strides 2, 1, 2, 2."""

    def of(images: torch.Tensor) -> torch.Tensor:
        for layer, stride in enumerate((2, 1, 2, 2), start=1):
            images = functional.conv2d(images, golden[f"conv{layer}_w"], golden[f"conv{layer}_b"], stride, padding=1).relu()
        return images

    return of


def pair(image: torch.Tensor) -> torch.Tensor:
    return torch.stack([image, image.flip(-1)])


def test_three_steps_and_their_intermediates_are_the_golden_ones():
    key, weights = STEPS["target_class"].reshape(1), STEPS["cls_w"]
    images, first = pair(STEPS["img0"])[None], None
    for step in range(3):
        images.requires_grad_()
        logit_maps = torch.einsum("kc,npchw->npkhw", weights, features(STEPS)(images[0])[None])
        regions = advcam.attributions(logit_maps[:, :, key[0]], weights[key])
        torch.testing.assert_close(regions.detach(), STEPS[f"region{step}"], rtol=1e-3, atol=1e-4)
        first = regions.detach() if first is None else first
        objective = advcam.objectives(logit_maps, key, regions, first, 7.0, 0.5)
        (gradient,) = torch.autograd.grad(objective.sum(), images)
        torch.testing.assert_close(gradient[0], STEPS[f"grad{step}"], rtol=1e-3, atol=1e-4)
        images = advcam.climbed(images.detach(), gradient, 0.08)
        if step in (0, 2):
            torch.testing.assert_close(images[0], STEPS[f"x{step + 1}"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "iterations", "regulariser", "rtol", "atol"),
    [("it1", 1, 7.0, 1e-3, 1e-5), ("it3", 3, 7.0, 0, 2e-3), ("it3_noreg", 3, 0.0, 0, 2e-3), ("it12", 12, 7.0, 0, 1e-2)],
)
def test_whole_climbs_over_four_scales_give_the_golden_maps(name, iterations, regulariser, rtol, atol):
    keys, grids = FULL["keys"].tolist(), []
    for index, scale in enumerate(SCALES):
        count = advcam.iterations_at(scale, iterations)
        found = advcam.climb(features(FULL), FULL["cls_w"], pair(FULL[f"img{index}"]), keys, count, regulariser=regulariser)
        grids.append(found.numpy())
    maps = Maps(FULL["keys"].numpy(), tuple(FULL["size"].tolist()), tuple(grids), read=divided_by_maximum)
    torch.testing.assert_close(maps.strided(), FULL[f"cam_{name}"], rtol=rtol, atol=atol)
    if f"high_res_{name}" in FULL:
        torch.testing.assert_close(maps.full(), FULL[f"high_res_{name}"], rtol=rtol, atol=atol)


def test_iterations_follow_the_code_s_rule_at_half_size():
    assert [advcam.iterations_at(0.5, count) for count in (1, 5, 6, 10, 11, 12, 27)] == [1, 5, 5, 5, 5, 6, 13]
    assert advcam.iterations_at(1.0, 27) == 27


def test_each_iteration_s_map_is_that_of_cam_up_to_a_factor_and_without_a_step_all_are_equal():
    one_view = torch.stack(
        [FULL["img0"], FULL["img0"] * 0]
    )  # a second view without response, so only relu(w . f) of the first is left
    weights, key = FULL["cls_w"], FULL["keys"][:1].tolist()
    once = advcam.climb(
        lambda images: features(FULL)(images) * torch.tensor([1.0, 0.0])[:, None, None, None], weights, one_view, key, 1
    )
    expected = torch.einsum("c,chw->hw", weights[key[0]], features(FULL)(one_view[:1])[0]).relu()
    torch.testing.assert_close(unit_maximum(once, 1e-30)[0], expected / expected.max(), rtol=1e-4, atol=1e-5)
    still = advcam.climb(features(FULL), weights, pair(FULL["img0"]), key, 5, step=0.0)
    torch.testing.assert_close(still, 5 * advcam.climb(features(FULL), weights, pair(FULL["img0"]), key, 1))


def test_classes_climb_side_by_side_as_they_would_alone():
    keys = FULL["keys"].tolist()
    together = advcam.climb(features(FULL), FULL["cls_w"], pair(FULL["img0"]), keys, 3)
    alone = [advcam.climb(features(FULL), FULL["cls_w"], pair(FULL["img0"]), [key], 3)[0] for key in keys]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-3, atol=1e-5)


def test_a_class_that_responds_nowhere_has_an_all_zero_map_and_no_nan():
    found = advcam.climb(features(FULL), -FULL["cls_w"].abs(), pair(FULL["img0"]), [3], 3)
    assert not found.any() and torch.isfinite(found).all()


def test_a_climb_raises_the_score_of_its_class():
    weights, key = FULL["cls_w"], FULL["keys"][:1]
    images = pair(FULL["img0"])[None]

    def score(found: torch.Tensor) -> torch.Tensor:
        return torch.einsum("c,pchw->phw", weights[key[0]], features(FULL)(found[0])).relu().mean(dim=(1, 2)).sum()

    before = score(images)
    images = images.requires_grad_()
    (gradient,) = torch.autograd.grad(score(images), images)
    after = advcam.climbed(images.detach(), gradient, 0.08)
    assert score(after) > before
    assert after.max() <= images.max() and after.min() >= images.min()


@pytest.mark.parametrize("choice", [None, "w2"])
def test_the_stage_s_grids_are_climbs_under_its_settings(tmp_path, choice):
    [item] = write_items(tmp_path, [(0, 1)])
    torch.manual_seed(0)
    network = (recam if choice else cam).network(Settings(SHARED), CLASSES).eval().requires_grad_(False)
    own = {"iterations": 3, "step": 0.2, "regulariser": 2.0, "mask_threshold": 0.3, "classes_at_once": 4, "scales": [1.0]}
    record = advcam.maps(context(own | {"network.weights": choice}, [item], network=network))(item)
    ((pair,),) = pairs([load(item, [1.0], torch.device("cpu"))], torch.device("cpu"))
    weights = network.reactivation.weight.flatten(1) if choice else network.weights
    grid = advcam.climb(network.features, weights, pair, [0, 1], 3, step=0.2, regulariser=2.0, threshold=0.3)
    np.testing.assert_allclose(record["grid0"], grid / grid.amax(dim=(1, 2), keepdim=True), atol=1e-3)


@pytest.mark.parametrize("choice", [None, "product"])
def test_the_stage_climbs_on_cam_and_on_recam_whatever_the_batch(tmp_path, choice):
    items = write_items(tmp_path, [(0, 1), ()])
    torch.manual_seed(0)
    network = (recam if choice else cam).network(Settings(SHARED), CLASSES).eval()
    values = CLIMB | {"scales": [1.0, 0.5], "network.weights": choice}
    record = advcam.maps(context(values, items, network=network))(items[0])
    assert (np.max([record[f"grid{scale}"].max(axis=(1, 2)) for scale in range(len(values["scales"]))], axis=0) == 1).all()
    together = Maps.of(record, divided_by_maximum)
    apart = Maps.of(advcam.maps(context(values | {"classes_at_once": 1}, items, network=network))(items[0]), divided_by_maximum)
    assert together.full().shape == (2, 48, 64) and len(together.grids) == 2
    torch.testing.assert_close(together.full(), apart.full(), rtol=1e-2, atol=5e-3)
    assert Maps.of(advcam.maps(context(values, items, network=network))(items[1]), divided_by_maximum).full().shape == (0, 48, 64)
