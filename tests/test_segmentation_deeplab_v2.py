"""DeepLabV2: the published network, loss and schedule, number for number; and a training that learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from backbones import resnet
from backbones.resnet import ResNet
from backbones.vision_models import models
from imagesets.item import Item
from segmentation import deeplab_v2
from segmentation.deeplab_v2 import DeepLabV2, PseudoMaskObjective
from segmentation.losses import shrunk
from segmentation.multi_scale import at_scales, largest
from training.loop import Run, train
from training.stage import Context, Settings
from training.threads import set_threads

GOLDEN = Path(__file__).parent / "golden"

SMALL = {
    "backbone": resnet.small,
    "weights": "none",
    "stride": 8,
    "rates": [1, 2, 4, 6],
    "iterations": 30,
    "batch": 4,
    "accumulate": 1,
    "lr": 0.002,
    "schedule": "poly",
    "optimiser": "sgd",
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "scales": [1.0],
    "crop": 64,
    "msc": False,
}


@pytest.fixture(scope="module")
def tiny():
    """The public code's network at 4 channels, with its weights: our own with the stride moved to the first 1x1."""
    golden = np.load(GOLDEN / "deeplabv2_tiny.npz")
    sizes = {"blocks": (1, 2, 2, 2), "widths": (4, 8, 16, 32)}
    backbone = ResNet(models.resnet.Bottleneck, **sizes, stride=8, dilated="uniform", frozen_statistics=True)
    network = DeepLabV2(backbone, labels=5, rates=(6, 12, 18, 24)).eval()
    first = backbone.layer2[0]
    first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
    state = {name[2:]: torch.from_numpy(golden[name]) for name in golden.files if name.startswith("w|")}
    names = {name if name.startswith("aspp") else f"backbone.{name}": value for name, value in state.items()}
    missing = network.load_state_dict(names, strict=False)
    assert not missing.unexpected_keys and all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    return network, golden


@pytest.mark.parametrize("case", [0, 1, 2])
def test_features_logits_and_scales_are_the_public_codes(tiny, case):
    network, golden = tiny
    images = torch.from_numpy(golden[f"x{case}"])
    with torch.no_grad():
        taps = network.backbone(images)
        scales = at_scales(network, images, (1.0, 0.5, 0.75))
    found = {f"layer1_{case}": taps[0], f"layer2_{case}": taps[1], f"layer5_{case}": taps[4], f"logits_{case}": scales[0]}
    found |= {f"msc_train_{case}_{index}": logits for index, logits in enumerate([*scales, largest(scales)])}
    found[f"msc_eval_{case}"] = largest(scales)
    for name, value in found.items():
        np.testing.assert_allclose(value, golden[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", [0, 2])
def test_the_training_loss_is_the_public_codes(tiny, case):
    network, golden = tiny
    label = torch.from_numpy(golden[f"label_{case}"].astype(np.uint8))
    for index in range(4):
        expected = golden[f"label_{case}_at{index}"]
        assert np.array_equal(shrunk(label, expected.shape[1:]), expected)
    batch = {"image": torch.from_numpy(golden[f"x{case}"]), "label": label}
    losses, _ = PseudoMaskObjective(network, (1.0, 0.5, 0.75))(batch, 0)
    assert list(losses) == ["cross_entropy_1", "cross_entropy_0.5", "cross_entropy_0.75", "cross_entropy_max"]
    terms = [loss.item() for loss in losses.values()]
    np.testing.assert_allclose(terms, golden[f"loss_terms_{case}"], rtol=1e-4)
    np.testing.assert_allclose(sum(terms), golden[f"loss_sum_{case}"], rtol=1e-4)


@pytest.mark.parametrize(("extent", "to"), [(52, 6), (321, 41), (28, 3)])
def test_labels_shrink_as_pillow_shrinks_them_where_two_pixels_are_as_near(extent, to):
    label = np.random.default_rng(0).integers(0, 21, (extent, 9), np.uint8)
    expected = np.asarray(Image.fromarray(label).resize((5, to), Image.Resampling.NEAREST))
    assert np.array_equal(shrunk(torch.from_numpy(label)[None], (to, 5))[0], expected)


class Features(nn.Module):
    """A backbone whose features are its input."""

    channels = (6, 6, 6, 6, 6)

    def forward(self, images):
        return (images,)


def test_the_head_is_the_sum_of_four_dilated_convolutions_with_its_gradient():
    golden = np.load(GOLDEN / "aspp_deeplabv2.npz")
    network = DeepLabV2(Features(), labels=4, rates=(6, 12, 18, 24))
    weights = {name[3:]: torch.from_numpy(golden[name]) for name in golden.files if name.startswith("w|c")}
    network.aspp.load_state_dict(weights)
    for index in range(2):
        features = torch.from_numpy(golden[f"x{index}"]).requires_grad_()
        logits = network(features)
        logits.square().mean().backward()
        np.testing.assert_allclose(logits.detach(), golden[f"y{index}"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(features.grad, golden[f"gradx_of_mean_square{index}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stride", "expected"), [(8, (2, 4)), (16, (1, 2))])
def test_every_3x3_convolution_of_a_stage_is_dilated_alike(stride, expected):
    with torch.device("meta"):
        backbone = deeplab_v2.network(Settings(SMALL | {"backbone": resnet.resnet101, "stride": stride}), ["a"]).backbone
    for stage, dilation in zip((backbone.layer3, backbone.layer4), expected, strict=True):
        spatial = [module for module in stage.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]
        assert {convolution.dilation for convolution in spatial} == {(dilation, dilation)}


def test_batch_norms_are_constants_from_pretrained_weights_and_train_from_scratch():
    for weights, trains in (("imagenet", False), ("none", True)):
        network = deeplab_v2.network(Settings(SMALL | {"weights": weights}), ["a"])
        norms = [module for module in network.train().modules() if isinstance(module, nn.BatchNorm2d)]
        assert all(module.training == trains and module.weight.requires_grad == trains for module in norms)


def striped_images(folder: Path, count: int) -> tuple[list[Item], dict[str, dict[str, np.ndarray]]]:
    """Images of a bright left and a dark right part, whose border varies, and their masks."""
    items, masks = [], {}
    for index in range(count):
        label = np.zeros((64, 64), np.uint8)
        label[:, : 16 + 4 * index] = 1
        label[:4] = 255
        Image.fromarray(np.repeat(label[..., None] % 255 * 200 + 20, 3, axis=2).astype(np.uint8)).save(folder / f"{index}.png")
        items.append(Item(str(index), folder / f"{index}.png", (0,)))
        masks[str(index)] = {"label": label}
    return items, masks


@pytest.mark.parametrize("msc", [False, True])
def test_a_training_learns_its_masks(tmp_path, msc):
    set_threads(1)
    torch.manual_seed(0)
    items, masks = striped_images(tmp_path, 8)
    settings = Settings(SMALL | {"msc": msc})
    training = deeplab_v2.training(Context(settings, ("bright",), items, (0,), torch.device("cpu"), {"masks": masks}))
    loop_settings = Settings({"loaders": 0, "precision": "float32", "ema": 0.0, "graphs": True})
    run = Run(("test",), tmp_path, loop_settings, torch.device("cpu"))
    history = train(training, items, run)
    first, last = (sum(value for name, value in losses.items() if name != "epoch") for losses in (history[0], history[-1]))
    assert last < 0.3 * first
