from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import backbones
from backbones import resnet
from maps.maps import Maps
from maps.reading import divided_by_maximum, unit_maximum
from methods import cam
from tests import two_colours
from tests.two_colours import CLASSES, SHARED, context, learnt, write_items
from training.stage import Settings

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "cam_multiscale.npz"))
TRAINING = two_colours.TRAINING | {"epochs": 15, "loss": "bce", "lr": 3e-3, "head_lr": 3e-3}


def tensor(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


def random_features(seed: int, channels: int = 6) -> torch.Tensor:
    return torch.rand((2, channels, 4, 5), generator=torch.Generator().manual_seed(seed))


def random_weights(seed: int, classes: int = 3, channels: int = 6) -> torch.Tensor:
    return torch.randn((classes, channels), generator=torch.Generator().manual_seed(seed + 1))


@pytest.mark.parametrize("scale", range(4))
def test_class_maps_are_the_golden_ones_at_every_scale(scale):
    found = cam.class_maps(tensor(f"feat{scale}"), tensor("W"))
    torch.testing.assert_close(found, tensor(f"map{scale}"), rtol=1e-4, atol=1e-5)


def test_summed_and_normalised_maps_are_the_golden_ones_and_a_dead_class_is_zero():
    keys, size = GOLDEN["keys"], tuple(GOLDEN["size"].tolist())
    grids = tuple(cam.class_maps(tensor(f"feat{scale}"), tensor("W")[keys]).numpy() for scale in range(4))
    maps = Maps(keys, size, grids, read=divided_by_maximum)
    torch.testing.assert_close(maps.strided(), tensor("cam"), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps.full(), tensor("high_res"), rtol=1e-4, atol=1e-5)
    dead = ~np.any([GOLDEN[f"map{scale}"][keys].any(axis=(1, 2)) for scale in range(4)], axis=0)
    assert dead.any() and (maps.full()[dead] == 0).all()


def test_loss_and_gradient_of_the_classifier_are_the_golden_ones():
    weights = tensor("W").clone().requires_grad_()
    network = SimpleNamespace(features=lambda features: features, weights=weights)
    losses, outputs = cam.ClassificationObjective(network, "bce")({"image": tensor("feat0"), "labels": tensor("label2")}, 0)
    torch.testing.assert_close(outputs["logits"].detach(), tensor("logit"), rtol=1e-4, atol=1e-5)
    losses["classification"].backward()
    torch.testing.assert_close(losses["classification"].detach(), tensor("bce"), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights.grad, tensor("dW"), rtol=1e-4, atol=1e-5)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.1, 50), st.floats(0.1, 50))
def test_scaling_features_or_weights_leaves_a_normalised_map_unchanged(seed, features_by, weights_by):
    features, weights = random_features(seed), random_weights(seed)
    plain = cam.class_maps(features, weights)
    scaled = cam.class_maps(features * features_by, weights * weights_by)
    torch.testing.assert_close(unit_maximum(scaled, epsilon=1e-30), unit_maximum(plain, epsilon=1e-30), rtol=1e-4, atol=1e-5)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_mirroring_the_image_mirrors_its_map(seed):
    features, weights = random_features(seed), random_weights(seed)
    # the pair of the mirrored image is the mirror first
    torch.testing.assert_close(cam.class_maps(features.flip(0), weights), cam.class_maps(features, weights).flip(-1))


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_the_mean_of_an_unrectified_map_is_the_logit(seed):
    features, weights = random_features(seed), random_weights(seed).abs()  # non-negative both: rectifying changes nothing
    logits = cam.class_scores(features, weights)
    torch.testing.assert_close(cam.class_maps(features, weights).mean(dim=(1, 2)), logits.sum(dim=0))


def test_without_initial_weights_statistics_are_live_and_nothing_is_frozen(tmp_path):
    training = cam.training(context(TRAINING, write_items(tmp_path, [(0,)] * 8)))
    assert all(parameter.requires_grad for parameter in training.network.parameters())
    assert not training.network.backbone.frozen_statistics


def test_with_initial_weights_statistics_and_the_stem_are_frozen(tmp_path):
    torch.save(backbones.build(resnet.small, frozen_statistics=False).state_dict(), tmp_path / "weights.pt")
    given_weights = TRAINING | {"backbone.weights": str(tmp_path / "weights.pt")}
    network = cam.training(context(given_weights, write_items(tmp_path, [(0,)] * 8))).network
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"backbone.conv1.weight", "backbone.bn1.weight", "backbone.bn1.bias"}
    assert network.backbone.frozen_statistics


def test_the_classifier_learns_and_its_maps_lie_on_their_objects(tmp_path):
    items = write_items(tmp_path, [(0,), (1,), (0, 1), ()] * 4)
    where = context(TRAINING, items)
    training = cam.training(where)
    history = learnt(training, where, tmp_path)
    assert history[-1]["classification"] < 0.3 * history[0]["classification"]
    one = cam.maps(context({"scales": [1.0, 2.0]}, items, network=training.network.eval()))
    maps = Maps.of(one(items[2]), divided_by_maximum)
    assert maps.keys.tolist() == [0, 1] and maps.full().shape == (2, 48, 64)
    columns = maps.full().sum(dim=1).argmax(dim=1)  # red is drawn left, blue right
    assert columns[0] < 32 < columns[1]
    assert Maps.of(one(items[3]), divided_by_maximum).full().shape == (0, 48, 64)


def test_a_class_has_the_same_map_whatever_other_classes_are_present(tmp_path):
    [item] = write_items(tmp_path, [(0, 1)])
    torch.manual_seed(0)
    one = cam.maps(context({"scales": [1.0, 0.5]}, [item], network=cam.network(Settings(SHARED), CLASSES).eval()))
    both, only_blue = (Maps.of(one(replace(item, labels=labels)), divided_by_maximum) for labels in ((0, 1), (1,)))
    torch.testing.assert_close(only_blue.full()[0], both.full()[1])


def test_trained_weights_fit_the_network_that_is_rebuilt_for_them(tmp_path):
    trained = cam.training(context(TRAINING, write_items(tmp_path, [(0,)] * 8))).network
    rebuilt = cam.network(Settings(SHARED), CLASSES)
    rebuilt.load_state_dict(trained.state_dict())
    torch.testing.assert_close(rebuilt.weights, trained.weights)
