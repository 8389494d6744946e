from dataclasses import replace
from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import backbones
from backbones import resnet
from imagesets.errors import WrongInput
from maps.maps import Maps
from methods import amn, cam
from segmentation.losses import shrunk
from tests.golden_vectors import golden
from tests.two_colours import CLASSES, COLOURS, LOOP, SHARED, context, learnt, write_items
from training import optimisers
from training.stage import Settings

TRAINING = {
    "epochs": 8,
    "batch": 4,
    "lr": 5e-4,
    "head_lr": 5e-3,
    "weight_decay": 1e-4,
    "smoothing": 0.4,
    "dropout": 0.1,
    "crop": 64,
    "scale_range": [0.9, 1.1],
    **LOOP,
}


class Features(nn.Module):
    """Takes given features for images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = (0, 0, 0, 0, channels)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (features,)


def golden_network(data: dict[str, torch.Tensor]) -> amn.AMN:
    network = amn.AMN(Features(data["aspp_W"].shape[2]), 20, dropout=0.0)
    with torch.no_grad():
        network.condition.weight.copy_(data["label_enc_W"])
        network.condition.bias.copy_(data["label_enc_b"])
        for branch, weight, bias in zip(network.aspp, data["aspp_W"], data["aspp_b"], strict=True):
            branch.weight.copy_(weight)
            branch.bias.copy_(bias)
    return network


def test_logits_gradient_and_three_steps_are_the_golden_ones():
    data = golden("amn_loss")
    network = golden_network(data)
    objective = amn.ConfidentLabelObjective(network, smoothing=0.4)
    batch = {"image": data["feat"], "label": data["label"], "labels": data["label_cls"]}
    assert torch.equal(shrunk(data["label"], data["label_small"].shape[1:]).long(), data["label_small"])
    logits = network(data["feat"], data["label_cls"])
    torch.testing.assert_close(logits, data["logit"], rtol=1e-4, atol=1e-5)
    loss = amn.balanced_loss(logits, data["label_small"], 0.4)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], data["dlogit"], rtol=1e-3, atol=1e-7)
    groups = [{"params": list(network.parameters()), "lr": 1e-4, "weight_decay": 1e-4}]
    optimiser = optimisers.build("adam", groups)
    for expected in data["losses"]:
        loss = objective(batch, 0)[0]["pixel_classification"]
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(network.condition.weight.detach(), data["label_enc_W_after"], rtol=0, atol=2e-6)
    biases = torch.stack([branch.bias for branch in network.aspp]).detach()
    torch.testing.assert_close(biases, data["aspp_b_after"], rtol=0, atol=2e-6)


def test_maps_are_the_golden_ones_without_the_background():
    data = golden("amn_maps")
    network = golden_network(data).eval()
    logits = []
    for scale in range(4):
        image, mirror = network(data[f"feat{scale}"], data["label"].expand(2, -1))
        logits.append(((image + mirror.flip(-1)) / 2).detach())
        torch.testing.assert_close(logits[-1], data[f"logit{scale}"], rtol=1e-4, atol=1e-5)
    found = amn.kept(data["keys"].tolist(), [grid.numpy() for grid in logits], data["seed_label"].numpy())
    maps = replace(found, read=amn.read)
    torch.testing.assert_close(maps.strided(), data["cam"][1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps.full(), data["high_res"][1:], rtol=1e-4, atol=1e-5)
    stored = Maps.of(maps.arrays(), amn.read)
    torch.testing.assert_close(stored.full(), maps.full(), rtol=0, atol=1e-3)  # half precision


def smoothed_target(label: torch.Tensor, classes: int, smoothing: float) -> torch.Tensor:
    """The target [B,K+1,h,w] written out, undecided pixels as background."""
    own = nn.functional.one_hot(torch.where(label == 255, 0, label).long(), classes + 1).movedim(-1, 1)
    return own * (1 - smoothing) + (1 - own) * smoothing / classes


labels_of_images = st.lists(st.sampled_from([0, 1, 3, 255]), min_size=8, max_size=8).map(
    lambda values: torch.tensor(values, dtype=torch.uint8).reshape(2, 2, 2)
)


@settings(max_examples=50)
@given(st.integers(0, 10_000), labels_of_images, st.floats(0, 1))
def test_the_loss_is_the_mean_cross_entropy_with_the_smoothed_target_of_either_side(seed, label, smoothing):
    logits = torch.randn((2, 4, 2, 2), generator=torch.Generator().manual_seed(seed))
    entropy = -(smoothed_target(label, 3, smoothing) * logits.log_softmax(1)).sum(1)
    sides = [entropy[chosen] for chosen in (label == 0, (label > 0) & (label < 255))]
    expected = sum(side.mean().item() if len(side) else 0.0 for side in sides) / 2
    assert amn.balanced_loss(logits, label, smoothing).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(max_examples=30)
@given(labels_of_images, st.floats(0, 1))
def test_uniform_logits_cost_log_of_the_number_of_labels_on_either_side(label, smoothing):
    sides = [(label == 0).any(), ((label > 0) & (label < 255)).any()]
    expected = log(4) * sum(side.item() for side in sides) / 2
    assert amn.balanced_loss(torch.zeros(2, 4, 2, 2), label, smoothing).item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_any_decided_pixel_has_loss_and_gradient_zero():
    logits = torch.randn(1, 4, 2, 2, requires_grad=True)
    loss = amn.balanced_loss(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8), 0.4)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_stretching_reaches_from_zero_to_one_where_confident_and_changes_nothing_elsewhere(seed):
    probabilities = torch.rand((3, 4, 5), generator=torch.Generator().manual_seed(seed))
    everywhere = amn.normalised_where_confident(probabilities, torch.ones(4, 5, dtype=torch.bool))
    torch.testing.assert_close(everywhere.amin(dim=(1, 2)), torch.zeros(3))
    torch.testing.assert_close(everywhere.amax(dim=(1, 2)), torch.ones(3), rtol=0, atol=1e-3)
    assert torch.equal(amn.normalised_where_confident(probabilities, torch.zeros(4, 5, dtype=torch.bool)), probabilities)


def test_dropout_is_off_at_inference():
    torch.manual_seed(0)
    network = amn.network(Settings(SHARED | {"dropout": 0.9}), CLASSES).eval()
    images, labels = torch.rand(1, 3, 32, 32), torch.ones(1, 2)
    assert torch.equal(network(images, labels), network(images, labels))


@pytest.fixture
def labelled(tmp_path):
    """Items, a trained-like classifier, and confident labels: the squares, undecided around them, background elsewhere."""
    items = write_items(tmp_path, [(0,), (1,), (0, 1), ()] * 2)
    labels = {}
    for item in items:
        rgb = item.rgb().astype(int)
        label = np.zeros(rgb.shape[:2], np.uint8)
        for index in item.labels:
            inside = np.abs(rgb - COLOURS[index]).sum(-1) < 20
            label[:, inside.any(0)] = 255
            label[inside] = index + 1
        labels[item.id] = {"label": label}
    torch.manual_seed(1)
    network = cam.network(Settings(SHARED), CLASSES).eval().requires_grad_(False)
    return SimpleNamespace(items=items, labels=labels, network=network)


def test_without_initial_weights_the_backbone_is_the_classifiers_with_frozen_statistics_and_stem(labelled):
    training = amn.training(context(TRAINING, labelled.items, network=labelled.network, labels=labelled.labels))
    for name, value in labelled.network.backbone.state_dict().items():
        assert torch.equal(training.network.backbone.state_dict()[name], value)
    assert training.network.backbone.frozen_statistics
    frozen = {name for name, parameter in training.network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"backbone.conv1.weight", "backbone.bn1.weight", "backbone.bn1.bias"}


def test_initial_weights_are_taken_from_their_file_and_not_from_the_classifier(labelled, tmp_path):
    state = backbones.build(resnet.small, frozen_statistics=True).state_dict()
    torch.save(state, tmp_path / "weights.pt")
    given_weights = TRAINING | {"backbone.weights": str(tmp_path / "weights.pt")}
    training = amn.training(context(given_weights, labelled.items, network=labelled.network, labels=labelled.labels))
    assert torch.equal(training.network.backbone.state_dict()["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])


@pytest.mark.parametrize("other", [nn.Linear(2, 2), cam.network(Settings(SHARED | {"backbone.name": resnet.resnet18}), CLASSES)])
def test_a_network_of_another_kind_before_it_is_refused_with_what_to_set(labelled, other):
    with pytest.raises(WrongInput, match=r"backbone\.weights"):
        amn.training(context(TRAINING, labelled.items, network=other, labels=labelled.labels))


def test_a_vector_s_probability_is_the_head_s_answer_in_the_middle_of_a_constant_map():
    network = golden_network(golden("amn_loss")).eval()
    vectors = torch.rand((3, 6), generator=torch.Generator().manual_seed(0))
    labels = torch.zeros((3, 20)).index_fill(1, torch.tensor([4]), 1.0)
    logits = network.head(vectors[:, :, None, None].expand(-1, -1, 49, 49), labels)[:, :, 24, 24]
    torch.testing.assert_close(network.probability(vectors, 4), logits.softmax(dim=1)[:, 5])


def test_the_maps_of_a_mirrored_image_are_the_mirrored_maps(labelled, tmp_path):
    item = labelled.items[2]
    Image.fromarray(item.rgb()[:, ::-1].copy()).save(tmp_path / "mirrored.png")
    mirrored = replace(item, id="mirrored", image=tmp_path / "mirrored.png")
    labels = {name: {"label": np.full((48, 64), 255, np.uint8)} for name in (item.id, "mirrored")}
    torch.manual_seed(3)
    network = amn.network(Settings(SHARED | {"dropout": 0.0}), CLASSES).eval()
    one = amn.maps(context({"scales": [1.0, 0.5]}, labelled.items, network=network, labels=labels))
    found, expected = (Maps.of(one(each), amn.read).full() for each in (mirrored, item))
    torch.testing.assert_close(found, expected.flip(-1), rtol=0, atol=5e-3)  # half precision
    assert (expected - expected.flip(-1)).abs().max() > 0.1  # of a symmetric map this would say nothing


def test_it_learns_the_labels_and_its_maps_lie_on_their_objects(labelled, tmp_path):
    where = context(TRAINING, labelled.items, network=labelled.network, labels=labelled.labels)
    training = amn.training(where)
    history = learnt(training, where, tmp_path)
    assert history[-1]["pixel_classification"] < history[0]["pixel_classification"]
    rebuilt = amn.network(where.settings, CLASSES)
    rebuilt.load_state_dict(training.network.state_dict())
    one = amn.maps(context({"scales": [1.0, 2.0]}, labelled.items, network=rebuilt.eval(), labels=labelled.labels))
    for item in labelled.items[:3]:
        maps, label = Maps.of(one(item), amn.read), labelled.labels[item.id]["label"]
        assert maps.keys.tolist() == list(item.labels) and maps.strided().shape[1:] == (12, 16)
        for key, full in zip(maps.keys, maps.full().numpy(), strict=True):
            assert full[label == key + 1].mean() > 2 * full[label == 0].mean()
    empty = Maps.of(one(labelled.items[3]), amn.read)
    assert empty.full().shape == (0, 48, 64) and empty.strided().shape == (0, 12, 16)
