"""Test-time fusion against the public rules, and label maps of whole images."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from imagesets.item import Item
from imagesets.rescaling import fitted
from maps.grids import resize
from orchestrator.planning.recipes import load_all
from refiners import crf
from segmentation import inference
from segmentation.fusion import RULES, View
from segmentation.multi_scale import at_scales, largest
from training.stage import Context, Settings

GOLDEN = np.load(Path(__file__).parent / "golden" / "test_time_fusion.npz")
SIZE = GOLDEN["image_uint8_rgb"].shape[:2]


def convolution(images: torch.Tensor) -> torch.Tensor:
    """The golden vectors' whole network: one 9x9 convolution of stride 8."""
    weight, bias = torch.from_numpy(GOLDEN["conv_weight"]), torch.from_numpy(GOLDEN["conv_bias"])
    return functional.conv2d(images, weight, bias, stride=8, padding=4)


def golden_views(code: str) -> list[View]:
    """Logits of the stored views on their own grid, mirrored ones (every second) turned back."""
    images = [torch.from_numpy(GOLDEN[f"{code}|view{index}"]) for index in range(6)]
    logits = [convolution(view).flip(-1) if index % 2 else convolution(view) for index, view in enumerate(images)]
    return [View(own, view.shape[-2:]) for own, view in zip(logits, images, strict=True)]


def same_labels(probabilities: torch.Tensor, expected: np.ndarray) -> bool:
    """Whether the labels are equal wherever the two largest probabilities differ by more than 1e-4."""
    first, second = probabilities.topk(2, dim=1).values[0]
    clear = (first - second > 1e-4).numpy()
    return np.array_equal(probabilities.argmax(1)[0].numpy()[clear], expected[clear])


@pytest.mark.parametrize(("rule", "code", "name"), [("mean_softmax", "mmseg", "prob_mean"), ("mean_logits", "seam", "prob")])
def test_stored_views_are_fused_as_in_the_public_code(rule, code, name):
    found = RULES[rule].fuse(golden_views(code), SIZE)
    np.testing.assert_allclose(found, GOLDEN[f"{code}|{name}"], atol=1e-5)
    assert same_labels(found, GOLDEN[f"{code}|label"])


def test_recurseeds_test_is_that_of_its_code_from_the_image_on():
    image = torch.from_numpy(GOLDEN["recurseed|input"])[None]
    found = inference.probabilities(convolution, image, (1.0, 0.5, 1.5), True, "mean_view_softmax")
    np.testing.assert_allclose(found, GOLDEN["recurseed|prob"], atol=1e-5)


def test_seams_test_resizes_images_as_its_code_does():
    image = torch.from_numpy(GOLDEN["seam|view2"])
    for scale, view in ((0.5, "seam|view0"), (1.5, "seam|view4")):
        np.testing.assert_allclose(RULES["mean_logits"].resizing(image, scale), GOLDEN[view], atol=1e-5)
    found = inference.probabilities(convolution, image, (0.5, 1.0, 1.5), True, "mean_logits")
    np.testing.assert_allclose(found, GOLDEN["seam|prob"], atol=1e-5)


@pytest.mark.parametrize("scale", [0.37, 0.5, 1.25, 1.75])
def test_sizes_and_places_of_each_test_are_those_of_its_code(scale):
    image = torch.rand(1, 3, 37, 55, generator=torch.Generator().manual_seed(0))
    plane = np.ascontiguousarray(image[0].permute(1, 2, 0))
    opencv = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(RULES["mean_logits"].resizing(image, scale)[0].permute(1, 2, 0), opencv, atol=1e-5)
    height, width = fitted((37, 55), (0, 0), scale)
    mmcv = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(RULES["mean_softmax"].resizing(image, scale)[0].permute(1, 2, 0), mmcv, atol=1e-5)
    size = (int(37 * scale), int(55 * scale))
    recurseed = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(RULES["mean_view_softmax"].resizing(image, scale), recurseed)
    deeplab = functional.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)
    assert torch.equal(RULES["max_logits"].resizing(image, scale), deeplab)


@pytest.mark.parametrize("fusion", RULES)
def test_a_side_has_at_least_one_pixel_at_every_scale(fusion):
    assert RULES[fusion].resizing(torch.rand(1, 3, 2, 64), 0.1).shape == (1, 3, 1, 6)
    assert inference.probabilities(convolution, torch.rand(1, 3, 2, 60), [0.1], True, fusion).shape[-2:] == (2, 60)


def test_the_maximum_of_probabilities_is_not_divided_by_its_sum():
    views = golden_views("mmseg")[::2]
    found = RULES["max_softmax"].fuse(views, SIZE)
    torch.testing.assert_close(found, torch.stack([resize(view.logits, SIZE).softmax(1) for view in views]).amax(0))
    assert found.sum(1).max() > 1


def test_max_logits_takes_the_maximum_on_the_grid_of_the_first_scale():
    images = torch.from_numpy(GOLDEN["mmseg|view0"])
    logits = at_scales(convolution, images, (1.0, 0.5, 0.75))
    np.testing.assert_allclose(largest(logits), GOLDEN["msc|logits"], atol=1e-5)
    found = inference.probabilities(convolution, images, (1.0, 0.5, 0.75), False, "max_logits")[0]
    expected = resize(torch.from_numpy(GOLDEN["msc|logits"]), SIZE).softmax(1)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("fusion", RULES)
def test_one_view_is_its_softmax_and_scores_lie_between_zero_and_one(fusion):
    image = torch.from_numpy(GOLDEN["mmseg|view0"])
    one = inference.probabilities(convolution, image, (1.0,), False, fusion)
    corners = fusion == "mean_logits"
    large = functional.interpolate(convolution(image), SIZE, mode="bilinear", align_corners=corners)
    torch.testing.assert_close(one, large.softmax(1))
    several = inference.probabilities(convolution, image, (1.0, 0.5), True, fusion)
    assert several.min() >= 0 and several.max() <= 1
    if fusion != "max_softmax":
        torch.testing.assert_close(several[0].sum(0), torch.ones(SIZE))


@pytest.mark.parametrize("fusion", RULES)
def test_with_mirror_images_the_mirror_image_gives_the_mirrored_prediction(fusion):
    image = torch.from_numpy(GOLDEN["mmseg|view0"])
    found = inference.probabilities(convolution, image, (1.0, 1.5), True, fusion)
    mirrored = inference.probabilities(convolution, image.flip(-1), (1.0, 1.5), True, fusion)
    torch.testing.assert_close(found, mirrored.flip(-1))


def test_the_recipes_offer_every_rule():
    for name in ("deeplabv2", "deeplabv3plus", "upernet", "pspnet", "resnet38d", "own"):
        assert load_all()[name].settings["fusion"].choices == tuple(RULES)


def test_an_image_is_fitted_before_it_is_scaled():
    image, seen = torch.zeros(1, 3, 40, 52), []

    def segment(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape[-2:]))
        return convolution(images)

    found = inference.Fused(segment, (1.0, 0.5), False, "mean_softmax", fit=(2048, 80))(image, (40, 52))
    assert seen == [(80, 104), (40, 52)] and found.shape[-2:] == (40, 52)
    inference.Fused(segment, (1.0,), False, "mean_softmax", fit=(104, 512))(image, (40, 52))
    assert seen[-1] == (80, 104)
    inference.Fused(segment, (0.7,), False, "mean_softmax", fit=(2048, 63))(image, (40, 52))  # 44.1 and 57.33
    inference.Fused(segment, (0.75,), False, "mean_softmax", fit=(2048, 62))(image, (40, 52))  # 46.5 and 60.45
    assert seen[-2:] == [(44, 57), (47, 60)]


def test_the_crf_decides_between_classes_that_are_probable_somewhere():
    rgb, scores = GOLDEN["image_uint8_rgb"], GOLDEN["mmseg|prob_mean"][0]
    parameters = crf.Parameters(**load_all()["crf"].table["deeplab"])
    item = Item("a", Path("a.png"), (0,))
    highest = np.sort(scores.max((1, 2)))
    some = inference.CRF(parameters, minimum=highest[-3])(item, rgb, [scores])["label"]
    assert set(np.unique(some)) <= set(np.flatnonzero(scores.max((1, 2)) >= highest[-3]))
    every = inference.CRF(parameters)(item, rgb, [scores])["label"]
    assert np.array_equal(every, crf.soft(rgb, scores, parameters).argmax(0))
    alone = inference.CRF(parameters, minimum=1.0)(item, rgb, [scores])["label"]
    assert np.unique(alone).tolist() == [int(scores.max((1, 2)).argmax())]


@pytest.mark.parametrize("parameters", ["none", load_all()["crf"].table["deeplab"]])
def test_predictions_are_label_maps_of_the_images_own_size(tmp_path, parameters):
    Image.fromarray(GOLDEN["image_uint8_rgb"]).save(tmp_path / "a.png")
    settings = {"test_scales": [1.0, 0.5], "mirror": True, "fusion": "mean_softmax", "crf": parameters, "test_fit": None}
    settings = Settings(settings | {"crf_minimum": None})
    context = Context(settings, ("a", "b", "c", "d"), (), (), torch.device("cpu"), {"segmenter": convolution})
    label = inference.predictions(context)(Item("a", tmp_path / "a.png", (0,)))["label"]
    assert label.shape == SIZE and label.dtype == np.uint8 and set(np.unique(label)) <= set(range(5))
