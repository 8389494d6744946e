"""SEAM: the golden vectors of the public code, and what must hold for PCM and the losses whatever the images."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.seam_step import whole_matrix
from imagesets.labelled_crop import LabelledCrop
from maps import pixel_correlation
from maps.normalising import competing
from maps.pixel_correlation import correlated
from methods import fsl, isl, seam
from methods.seam import View
from orchestrator.engine.context import settings_of
from orchestrator.planning.experiment import Request, experiment
from tests.golden_vectors import golden
from training.stage import Context, Training
from training.transfer import to_device

TERMS = ("loss", "cls", "cls1", "cls2", "rvmin1", "rvmin2", "er", "ecr1", "ecr2", "fs1", "is1")


class Given(nn.Module):
    """A backbone that returns given feature maps."""

    def __init__(self, *taps: torch.Tensor) -> None:
        super().__init__()
        self.channels, self.taps = tuple(tap.shape[1] for tap in taps), taps

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.taps


def golden_network(data: dict[str, torch.Tensor]) -> seam.SEAM:
    network = seam.SEAM(Given(data["conv4"], data["conv5"], data["conv6"]), 20)
    for name, weight in (("classifier", "fc8"), ("middle", "f8_3"), ("late", "f8_4"), ("joint", "f9")):
        getattr(network, name).weight = nn.Parameter(data[f"w_{weight}"][:, :, None, None].clone())
    return network.eval()


def close(found: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("block", [1, 2**8, 2**21])
def test_the_network_gives_the_golden_maps_and_gradients_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(pixel_correlation, "BLOCK", block)
    data = golden("seam_pcm")
    network = golden_network(data)
    scores, refined = network.maps(data["img"], torch.arange(20).expand(len(data["img"]), 20))
    close(scores, data["logits"])
    close(competing(scores), data["pcm_cam_in"])
    close(refined, data["pcm_out"])
    layers = network.middle, network.late, network.joint
    gradients = torch.autograd.grad(refined, [layer.weight for layer in layers], data["upstream"])
    for gradient, name in zip(gradients, ("f8_3", "f8_4", "f9"), strict=True):
        close(gradient.flatten(1), data[f"grad_{name}"])
    size = data["img"].shape[-2:]
    close(seam.resized(scores, size)[..., ::8, ::8], data["cam_subset"])
    close(seam.resized(refined, size)[..., ::8, ::8], data["cam_rv_subset"])


def test_a_network_refines_the_classes_that_it_is_asked_for_as_it_does_among_all() -> None:
    data = golden("seam_pcm")
    network, images = golden_network(data), len(data["img"])
    keys = torch.stack([torch.arange(20).roll(place + 3)[:2] for place in range(images)])
    every = network.maps(data["img"], torch.arange(20).expand(images, 20))[1]
    close(network.maps(data["img"], keys)[1], seam.own_planes(every, keys))


def golden_step() -> tuple[dict[str, torch.Tensor], list[torch.Tensor], View, View, torch.Tensor, torch.Tensor]:
    data = golden("seam_step")
    inputs = [data[name].requires_grad_() for name in ("logits1", "pcm1", "logits2", "pcm2")]
    keys, shown = seam.own_classes(data["label"])
    size = data["img"].shape[2:]
    first = View(inputs[0], seam.own_planes(inputs[1], keys), size)
    second = View(inputs[2], seam.own_planes(inputs[3], keys), [int(0.3 * side) for side in size])
    return data, inputs, first, second, keys, shown


def test_every_loss_of_a_step_is_the_golden_one() -> None:
    data, _, first, second, keys, shown = golden_step()
    expected = dict(zip(TERMS, data["values"][0], strict=True))
    found = seam.losses(first, second, data["label"], keys, shown)
    close(seam.classification(first, data["label"]), expected["cls1"], rtol=2e-4)
    close(seam.classification(second, data["label"]), expected["cls2"], rtol=2e-4)
    close(seam.lowest(first, shown), expected["rvmin1"], rtol=2e-4)
    close(seam.lowest(second, shown), expected["rvmin2"], rtol=2e-4)
    close(found["classification"], expected["cls1"] / 2, rtol=2e-4)
    close(found["classification"] + found["second_classification"] + found["background"], expected["cls"], rtol=2e-4)
    close(found["equivariance"], expected["er"], rtol=2e-4)
    close(found["cross_equivariance"], expected["ecr1"] + expected["ecr2"], rtol=2e-4)
    close(sum(found.values()), expected["loss"], rtol=2e-4)


def test_the_gradient_of_a_step_is_the_golden_one() -> None:
    data, inputs, first, second, keys, shown = golden_step()
    total = sum(seam.losses(first, second, data["label"], keys, shown).values())
    for gradient, name in zip(torch.autograd.grad(total, inputs), ("logits1", "pcm1", "logits2", "pcm2"), strict=True):
        expected = data[f"grad_seam_{name}"]
        assert (gradient - expected).abs().max() <= 2e-4 * expected.abs().max()


class Answers(nn.Module):
    """A network whose answers to two views are given: scores [B,1+K,h,w] and refined maps of all classes."""

    def __init__(self, *inputs: torch.Tensor) -> None:
        super().__init__()
        self.answers = [inputs[:2], inputs[2:]]

    def maps(self, images: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, refined = self.answers.pop(0)
        return scores, seam.own_planes(refined, keys)


@pytest.mark.parametrize(
    ("row", "name", "method", "assignments"),
    [
        (0, "seam", "seam", ()),
        (1, "isl_fsl", "seam+isl+fsl", ()),
        (2, "isl_only", "seam+isl", ()),
        (3, "fsl_only", "seam+fsl", ()),
        (4, "isl_lambda1", "seam+isl", ("isl.weight=1",)),
    ],
)
def test_a_step_with_hfpl_s_losses_at_their_defaults_is_the_golden_one(
    monkeypatch: pytest.MonkeyPatch, row: int, name: str, method: str, assignments: tuple[str, ...]
) -> None:
    data, inputs, *_ = golden_step()
    monkeypatch.setattr(isl, "drawn", lambda distributions, samples: data["indices"].long())
    stages = experiment(Request(method, "voc12:x", assignments=assignments)).stages
    (stage,) = (stage for stage in stages if stage.name == "seam-network")
    own = settings_of(stage.settings)
    network: Any = Answers(*inputs)
    training = Training(network, seam.EquivarianceObjective(network, own.view_scale), *[None] * 3, 1, 1)  # type: ignore[arg-type]
    context = Context(own, (), (), (), torch.device("cpu"))
    for add_on in stage.add_ons:
        training = {"isl": isl.adding, "fsl": fsl.adding}[add_on](training, context)
    found, _ = training.objective({"image": data["img"], "labels": data["label"]}, 0)
    total, expected = sum(found.values()), data[f"grad_{name}_logits1"]
    close(total, data["values"][row, TERMS.index("loss")], rtol=2e-4)
    (gradient,) = torch.autograd.grad(total, inputs[0])
    assert (gradient - expected).abs().max() <= 2e-4 * expected.abs().max()


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_features_that_are_orthogonal_leave_the_maps_as_they_are(height: int, width: int, seed: int) -> None:
    """PCM with the identity as its affinity."""
    torch.manual_seed(seed)
    maps, features = torch.rand(2, 3, height, width), torch.eye(height * width).reshape(1, -1, height, width)
    close(correlated(maps, features.expand(2, -1, -1, -1)), maps, rtol=1e-4, atol=0)


def test_features_that_are_equal_everywhere_give_the_mean() -> None:
    maps = torch.rand(1, 2, 4, 5)
    close(correlated(maps, torch.ones(1, 3, 4, 5)), maps.mean(dim=(2, 3), keepdim=True).expand_as(maps))


def test_the_gradient_of_pcm_is_that_of_the_plain_form() -> None:
    torch.manual_seed(0)
    maps, upstream = torch.rand(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    gradients = []
    for form in (correlated, whole_matrix):
        features = torch.linspace(-1, 1, 2 * 6 * 20).sin().mul(37).sin().reshape(2, 6, 4, 5).requires_grad_()
        gradients.append(torch.autograd.grad(form(maps, features), features, upstream)[0])
    close(*gradients)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))
def test_the_mean_of_enlarged_maps_needs_no_enlarged_maps(height: int, width: int, rows: int, columns: int) -> None:
    maps = torch.rand(2, 3, height, width)
    close(seam.mean_when_resized(maps, (rows, columns)), seam.resized(maps, (rows, columns)).mean(dim=(2, 3)))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_the_losses_are_computed_in_the_precision_of_the_scores(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    keys, shown = seam.own_classes(labels)
    planes = torch.randn(2, 4, 6, 5), torch.rand(2, 3, 6, 5), torch.randn(2, 4, 2, 2), torch.rand(2, 3, 2, 2)

    def total(*planes: torch.Tensor) -> torch.Tensor:
        first, second = View(*planes[:2], (40, 33)), View(*planes[2:], (12, 9))
        return sum(seam.losses(first, second, labels, keys, shown).values(), torch.zeros(()))

    close(total(*(plane.to(kind) for plane in planes)).float(), total(*planes), rtol=0.05)


def test_images_of_no_class_have_losses_of_0_but_for_classification() -> None:
    labels = torch.zeros(2, 4)
    keys, shown = seam.own_classes(labels)
    first = View(torch.randn(2, 5, 6, 6), torch.rand(2, 1 + keys.shape[1], 6, 6), (48, 48))
    second = View(torch.randn(2, 5, 2, 2), torch.rand(2, 1 + keys.shape[1], 2, 2), (14, 14))
    found = seam.losses(first, second, labels, keys, shown)
    assert found["background"] == found["equivariance"] == 0 and found["classification"] > 0
    assert all(torch.isfinite(loss) for loss in found.values())


def test_equal_maps_of_both_views_cost_no_equivariance() -> None:
    labels = torch.tensor([[1.0, 0, 1]])
    keys, shown = seam.own_classes(labels)
    scores, refined = torch.randn(1, 4, 5, 5), torch.rand(1, 3, 5, 5)
    view = View(scores, refined, (20, 20))
    assert seam.losses(view, view, labels, keys, shown)["equivariance"] == 0


def test_a_training_image_is_recoloured_and_the_mean_colour_lies_around_it() -> None:
    item: Any = SimpleNamespace(
        rgb=lambda: np.full((30, 60, 3), 200, np.uint8), multi_hot=lambda count: np.ones(count, np.float32)
    )
    plain, jittered = (
        LabelledCrop((60, 60), 64, 3, colour)(item, np.random.default_rng(2))["image"] for colour in ("none", "jitter")
    )
    image = to_device({"image": jittered[None]}, torch.device("cpu"))["image"][0]
    inside = plain[3] == 255
    assert inside.sum() == 30 * 60 and torch.equal(plain[3], jittered[3])
    assert (plain[:3, inside] == 200).all() and (jittered[:3, inside] != 200).any()
    assert (image[:, ~inside] == 0).all()
