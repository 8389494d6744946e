from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones import resnet
from imagesets.errors import WrongInput
from maps.maps import Maps
from maps.reading import divided_by_maximum
from methods import cam, recam
from tests import two_colours
from tests.two_colours import CLASSES, SHARED, context, learnt, write_items
from training.stage import Settings

FOLDER = Path(__file__).parent / "golden"
LOSS, MAPS = (
    {name: torch.from_numpy(array) for name, array in np.load(FOLDER / f"recam_{part}.npz").items()} for part in ("loss", "maps")
)
TRAINING = two_colours.TRAINING | {"epochs": 12, "lambda": 1.0, "lr": 1e-4, "head_lr": 1e-2}


class Fixed(recam.Reactivated):
    """A network with given weights that takes features in place of images."""

    def __init__(self, first: torch.Tensor, second: torch.Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.first, self.second = torch.nn.Parameter(first.clone()), torch.nn.Parameter(second.clone())

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def chosen_weights(self, choice: str) -> torch.Tensor:
        return recam.CHOICES[choice](self.first, self.second)


def close(found: torch.Tensor, golden: torch.Tensor, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found.detach(), golden, rtol=rtol, atol=atol)


def trained_cam(folder: Path) -> tuple[list, cam.Classifier]:
    items = write_items(folder, [(0,), (1,), (0, 1), ()] * 4)
    torch.manual_seed(0)
    return items, cam.network(Settings(SHARED), CLASSES).eval()


def test_class_features_and_both_losses_are_the_golden_ones():
    close(recam.class_features(LOSS["feat"], LOSS["W1"]), LOSS["class_feat"])
    logits = LOSS["class_feat"] @ LOSS["W2"].T
    close(recam.reactivation_loss(logits, LOSS["label"]), LOSS["sce"])
    close(cam.classification_loss(LOSS["logit"], LOSS["label"], "bce"), LOSS["bce"])


@pytest.mark.parametrize("balance", [1.0, 0.1])
def test_the_total_and_its_gradients_are_the_golden_ones(balance):
    network, features = Fixed(LOSS["W1"], LOSS["W2"]), LOSS["feat"].clone().requires_grad_()
    losses, _ = recam.ReactivationObjective(network, balance)({"image": features, "labels": LOSS["label"]}, 0)
    total = sum(losses.values())
    total.backward()
    close(total, LOSS[f"total_lam{balance}"])
    found = {"dFeat": features.grad, "dW1": network.first.grad, "dW2": network.second.grad}
    for name, gradient in found.items():
        close(gradient, LOSS[f"{name}_lam{balance}"], rtol=1e-3)


def test_lambda_0_leaves_the_loss_of_the_first_classifier_alone():
    network, features = Fixed(LOSS["W1"], LOSS["W2"]), LOSS["feat"].clone().requires_grad_()
    losses, _ = recam.ReactivationObjective(network, 0.0)({"image": features, "labels": LOSS["label"]}, 0)
    sum(losses.values()).backward()
    alone = LOSS["feat"].clone().requires_grad_()
    cam.classification_loss(cam.class_scores(alone, LOSS["W1"]), LOSS["label"], "bce").backward()
    torch.testing.assert_close(features.grad, alone.grad)
    assert not network.second.grad.any()


def test_a_network_of_another_kind_is_refused_in_one_sentence(tmp_path):
    items, plain = trained_cam(tmp_path)
    other = {"backbone.name": resnet.resnet18, "backbone.weights": "none"}
    for foreign, wrong in (
        (torch.nn.Linear(2, 2), r"61 missing \(first: backbone.conv1.weight\), 2 unexpected \(first: weight\)"),
        (cam.network(Settings(other), CLASSES), r".*unexpected \(first: .*of another shape \(first: backbone.conv1.weight .*"),
        (
            cam.network(Settings(SHARED), (*CLASSES, "green")),
            r"1 of another shape \(first: classifier.weight \[3, .* for \[2, .*\)",
        ),
    ):
        with pytest.raises(
            WrongInput, match=f"^recam starts from the network before it .* not a network that recam can start from: {wrong}$"
        ):
            recam.training(context(TRAINING, items, network=foreign))
    recam.training(context(TRAINING, items, network=plain))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.1, 50))
def test_class_features_do_not_depend_on_the_size_of_the_first_classifier_s_weights(seed, by):
    rng = torch.Generator().manual_seed(seed)
    features, weights = torch.rand((2, 6, 4, 5), generator=rng) + 0.1, torch.rand((3, 6), generator=rng) + 0.1
    plain, scaled = (recam.class_features(features, weights * factor) for factor in (1.0, by))
    torch.testing.assert_close(scaled, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("choice", "golden"), [("w", "w1"), ("w2", "w2"), ("sum", "add"), ("product", "mul")])
def test_each_choice_of_weights_gives_the_golden_maps(choice, golden):
    keys, size = MAPS["keys"].numpy(), tuple(MAPS["size"].tolist())
    weights = recam.CHOICES[choice](MAPS["W1"], MAPS["W2"])
    grids = tuple(cam.class_maps(MAPS[f"feat{scale}"], weights[keys]).numpy() for scale in range(4))
    maps = Maps(keys, size, grids, read=divided_by_maximum)
    close(maps.strided(), MAPS[f"{golden}_cam"], atol=1e-5)
    close(maps.full(), MAPS[f"{golden}_high_res"], atol=1e-5)


def test_one_forward_pass_serves_all_choices(tmp_path):
    items, plain = trained_cam(tmp_path)
    network = recam.training(context(TRAINING, items, network=plain)).network.eval()
    passes, features = [], network.features
    network.features = lambda images: passes.append(1) or features(images)
    stored = {"image2": recam.responses(context({"scales": [1.0, 0.5]}, items, network=network))(items[2])}
    assert len(passes) == 2  # one a scale
    for choice in recam.CHOICES:
        found = Maps.of(recam.maps(context({"weights": choice}, items, responses=stored))(items[2]), divided_by_maximum)
        weights = network.chosen_weights(choice)
        own = cam.maps(context({"scales": [1.0, 0.5]}, items, network=type("", (), {"features": features, "weights": weights})))
        expected = Maps.of(own(items[2]), divided_by_maximum)
        assert found.keys.tolist() == [0, 1] and found.size == (48, 64)
        torch.testing.assert_close(found.full(), expected.full(), rtol=1e-2, atol=2e-3)  # half precision


def test_training_starts_from_the_cam_network_and_the_second_classifier_learns(tmp_path):
    items, plain = trained_cam(tmp_path)
    where = context(TRAINING, items, network=plain)
    training = recam.training(where)
    for name, values in plain.state_dict().items():
        assert torch.equal(training.network.state_dict()[name], values)
    history = learnt(training, where, tmp_path)
    assert history[-1]["reactivation"] < 0.5 * history[0]["reactivation"]
    rebuilt = recam.network(Settings(SHARED), CLASSES)
    rebuilt.load_state_dict(training.network.state_dict())
    one = recam.responses(context({"scales": [1.0]}, items, network=rebuilt.eval()))
    assert Maps.of(one(items[3]), divided_by_maximum).full().shape == (0, 48, 64)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_softmax_losses_of_the_plain_classifier(seed):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn((4, 5), generator=rng)
    labels = torch.eye(5)[:4]
    usual = torch.nn.functional.cross_entropy(logits, torch.arange(4))
    torch.testing.assert_close(cam.classification_loss(logits, labels, "sce"), usual)
    torch.testing.assert_close(cam.classification_loss(logits, labels, "single-sce"), usual)
    several = torch.ones(4, 5)
    binary = cam.classification_loss(logits, several, "bce")
    torch.testing.assert_close(cam.classification_loss(logits, several, "single-sce"), binary)
