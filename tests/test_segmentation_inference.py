"""Test-time fusion against the public rules, and label maps of whole images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from imagesets.item import Item
from maps.grids import resize
from orchestrator.planning.recipes import load_all
from segmentation import inference
from segmentation.multi_scale import at_scales, largest
from training.stage import Context, Settings

GOLDEN = np.load(Path(__file__).parent / "golden" / "test_time_fusion.npz")
SIZE = GOLDEN["image_uint8_rgb"].shape[:2]


def convolution(images: torch.Tensor) -> torch.Tensor:
    """The golden vectors' whole network: one 9x9 convolution of stride 8."""
    weight, bias = torch.from_numpy(GOLDEN["conv_weight"]), torch.from_numpy(GOLDEN["conv_bias"])
    return functional.conv2d(images, weight, bias, stride=8, padding=4)


def golden_views(code: str, align_corners: bool) -> list[torch.Tensor]:
    """Logits of the stored views at their own size, mirrored ones (every second) turned back."""
    images = [torch.from_numpy(GOLDEN[f"{code}|view{index}"]) for index in range(6)]
    logits = [
        functional.interpolate(convolution(view), size=view.shape[-2:], mode="bilinear", align_corners=align_corners)
        for view in images
    ]
    return [view.flip(-1) if index % 2 else view for index, view in enumerate(logits)]


def same_labels(probabilities: torch.Tensor, expected: np.ndarray) -> bool:
    """Whether the labels are equal wherever the two largest probabilities differ by more than 1e-4."""
    first, second = probabilities.topk(2, dim=1).values[0]
    clear = (first - second > 1e-4).numpy()
    return np.array_equal(probabilities.argmax(1)[0].numpy()[clear], expected[clear])


def test_mean_softmax_is_mmsegmentations():
    found = inference.fuse(golden_views("mmseg", align_corners=False), SIZE, "mean_softmax")
    np.testing.assert_allclose(found, GOLDEN["mmseg|prob_mean"], atol=1e-5)
    assert same_labels(found, GOLDEN["mmseg|label"])


def test_mean_logits_is_seams():
    # SEAM enlarges with aligned corners, which we do not: fusion is compared on views enlarged its way
    views = [
        functional.interpolate(view, size=SIZE, mode="bilinear", align_corners=True)
        for view in golden_views("seam", align_corners=True)
    ]
    found = inference.fuse(views, SIZE, "mean_logits")
    np.testing.assert_allclose(found, GOLDEN["seam|prob"], atol=1e-5)
    assert same_labels(found, GOLDEN["seam|label"])


def test_max_logits_takes_the_maximum_on_the_grid_of_the_first_scale():
    images = torch.from_numpy(GOLDEN["mmseg|view0"])
    logits = at_scales(convolution, images, (1.0, 0.5, 0.75))
    np.testing.assert_allclose(largest(logits), GOLDEN["msc|logits"], atol=1e-5)
    found = inference.probabilities(convolution, images, (1.0, 0.5, 0.75), False, "max_logits")[0]
    expected = resize(torch.from_numpy(GOLDEN["msc|logits"]), SIZE).softmax(1)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("fusion", ["max_logits", "mean_logits", "mean_softmax"])
def test_one_view_is_its_softmax_and_any_fusion_sums_to_one(fusion):
    image = torch.from_numpy(GOLDEN["mmseg|view0"])
    one = inference.probabilities(convolution, image, (1.0,), False, fusion)
    torch.testing.assert_close(one, resize(convolution(image), SIZE).softmax(1))
    several = inference.probabilities(convolution, image, (1.0, 0.5), True, fusion)
    torch.testing.assert_close(several[0].sum(0), torch.ones(SIZE))


@pytest.mark.parametrize("fusion", ["max_logits", "mean_logits", "mean_softmax"])
def test_with_mirror_images_the_mirror_image_gives_the_mirrored_prediction(fusion):
    image = torch.from_numpy(GOLDEN["mmseg|view0"])
    found = inference.probabilities(convolution, image, (1.0, 1.5), True, fusion)
    mirrored = inference.probabilities(convolution, image.flip(-1), (1.0, 1.5), True, fusion)
    torch.testing.assert_close(found, mirrored.flip(-1))


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="no fusion rule 'median'"):
        inference.fuse([torch.zeros(1, 2, 3, 3)], (3, 3), "median")


@pytest.mark.parametrize("crf", ["none", load_all()["crf"].table["deeplab"]])
def test_predictions_are_label_maps_of_the_images_own_size(tmp_path, crf):
    Image.fromarray(GOLDEN["image_uint8_rgb"]).save(tmp_path / "a.png")
    settings = Settings({"test_scales": [1.0, 0.5], "mirror": True, "fusion": "mean_softmax", "crf": crf})
    context = Context(settings, ("a", "b", "c", "d"), (), (), torch.device("cpu"), {"segmenter": convolution})
    label = inference.predictions(context)(Item("a", tmp_path / "a.png", (0,)))["label"]
    assert label.shape == SIZE and label.dtype == np.uint8 and set(np.unique(label)) <= set(range(5))
