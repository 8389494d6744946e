"""IRN as stages: its training and its pseudo masks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import backbones
from backbones import resnet
from imagesets.errors import WrongInput
from imagesets.views import load, pairs
from maps.maps import Maps
from maps.reading import as_they_are
from refiners import irn
from refiners.irnet import boundaries
from refiners.random_walk import walk
from tests.two_colours import LOOP, SIZE, context, learnt, truth, write_items
from training.stage import Context

TRAINING = {
    "epochs": 12,
    "batch": 4,
    "lr": 0.1,
    "displacement_lr": 0.1,
    "momentum": 1e-4,
    "weight_decay": 1e-4,
    "scale_range": [0.9, 1.1],
    "crop": 64,
    "pair_radius": 5,
    "mean_shift": True,
    **LOOP,
}
WALKING = {
    "padding": 0,
    "walk_radius": 5,
    "beta": 10.0,
    "exp_times": 8,
    "maps.walk_power": 1.0,
    "maps.walk_background": 0.25,
}


def classifier(architecture: Callable[..., backbones.Backbone] = resnet.small) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Module()
    module.backbone = backbones.build(architecture, frozen_statistics=False)
    return module


def prepared(folder: Path, count: int = 8, values: dict | None = None, network: nn.Module | None = None) -> Context:
    items = write_items(folder, [((0,), (1,), (0, 1))[index % 3] for index in range(count)], SIZE)
    labels = {item.id: {"label": truth(item)} for item in items}
    return context(TRAINING | (values or {}), items, labels=labels, network=network or classifier())


def test_without_initial_weights_the_backbone_is_that_of_the_network_before(tmp_path):
    source = classifier()
    state = irn.training(prepared(tmp_path, network=source)).network.backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in source.backbone.state_dict().items())


def test_with_initial_weights_the_backbone_is_theirs(tmp_path):
    other = classifier().backbone
    nn.init.constant_(other.conv1.weight, 0.125)
    torch.save(other.state_dict(), tmp_path / "weights.pt")
    training = irn.training(prepared(tmp_path, values={"backbone.weights": str(tmp_path / "weights.pt")}))
    assert (training.network.backbone.conv1.weight == 0.125).all()


def test_a_network_of_another_kind_before_it_is_refused_with_what_to_set(tmp_path):
    with pytest.raises(WrongInput, match=r"set backbone\.weights"):
        irn.training(prepared(tmp_path, network=classifier(resnet.resnet18)))
    with pytest.raises(WrongInput, match=r"set backbone\.weights"):
        irn.training(prepared(tmp_path, network=nn.Linear(2, 2)))


def test_a_crop_without_any_pair_is_refused(tmp_path):
    with pytest.raises(WrongInput, match="at least 73 pixels"):
        irn.training(prepared(tmp_path, values={"pair_radius": 10}))
    trained = irn.training(prepared(tmp_path, values={"pair_radius": 10, "crop": 73}))
    assert trained.steps == 24 and trained.objective.radius == 10


def test_an_example_is_a_crop_with_its_labels_on_the_boundary_grid(tmp_path):
    where = prepared(tmp_path)
    example = irn.training(where).sample(where.items[0], np.random.default_rng(0))
    assert example["image"].shape == (4, 64, 64) and example["image"].dtype == torch.uint8
    assert example["label"].shape == (16, 16) and example["label"].dtype == torch.uint8
    assert set(example["label"].unique().tolist()) <= {0, 1, 2, 255}


def test_the_mean_displacement_is_that_of_whole_batches_of_top_left_crops(tmp_path):
    where = prepared(tmp_path, count=11)
    training = irn.training(where)
    training.network.displacement_mean.fill_(5)
    training.network.eval()
    training.finish()
    found = training.network.displacement_mean.clone()
    training.network.train()
    rows = []
    for item in where.items[:8]:
        crop = np.zeros((3, 64, 64), np.float32)
        crop[:, :48] = irn.transforms.normalise(item.rgb())
        rows.append(training.network(torch.from_numpy(crop)[None])[1].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(found, torch.stack(rows).mean(dim=0).detach(), rtol=1e-4, atol=1e-5)
    assert irn.training(prepared(tmp_path, values={"mean_shift": False})).finish is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Context, nn.Module, list[dict[str, float]]]:
    folder = tmp_path_factory.mktemp("irn")
    torch.set_num_threads(1)
    where = prepared(folder, count=12, values={"epochs": 15})
    torch.manual_seed(2)
    training = irn.training(where)
    history = learnt(training, where, folder)
    return where, training.network.eval(), history


def test_affinity_and_displacement_losses_fall_in_training(trained):
    _, _, history = trained
    affinity = [epoch["positive affinity"] + epoch["negative affinity"] for epoch in history]
    assert affinity[-1] < 0.85 * affinity[0]
    assert history[-1]["displacement foreground"] < history[0]["displacement foreground"]


def test_a_trained_network_is_rebuilt_from_its_settings(trained):
    where, network, _ = trained
    rebuilt = irn.network(where.settings, where.classes)
    rebuilt.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 48, 64)
    torch.testing.assert_close(rebuilt.eval()(images)[0], network(images)[0])


def walking(where: Context, network: nn.Module, values: dict | None = None, seeds: bool = True) -> Context:
    """Maps that respond only at the centre of each object."""
    records = {}
    for item in where.items:
        keys = np.array(item.labels if seeds else (), np.int64)
        planes = np.zeros((len(keys), *SIZE), np.float32)
        for plane, key in zip(planes, keys, strict=True):
            inside = np.argwhere(truth(item) == key + 1).mean(axis=0).astype(int)
            plane[inside[0] - 4 : inside[0] + 4, inside[1] - 4 : inside[1] + 4] = 1
        records[item.id] = Maps(keys, SIZE, (planes[:, ::4, ::4], planes), read=as_they_are)
    return context(WALKING | (values or {}), list(where.items), maps=records, affinity=network)


def test_the_walk_makes_masks_fit_their_objects_far_better_than_the_seeds_did(trained):
    where, network, _ = trained
    context_ = walking(where, network)
    one = irn.masks(context_)
    overlap, before = [], []
    for item in where.items:
        found, expected = one(item)["label"], truth(item)
        overlap.append(((found == expected) & (expected > 0)).sum() / ((found > 0) | (expected > 0)).sum())
        seeds = context_.inputs["maps"][item.id].full().amax(dim=0).numpy() > 0.25
        before.append((seeds & (expected > 0)).sum() / (seeds | (expected > 0)).sum())
    assert np.mean(overlap) > 1.8 * np.mean(before)


def test_a_power_on_the_maps_is_taken_before_the_walk(trained):
    where, network, _ = trained
    item, ramp = where.items[0], np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 1, 16).repeat(12, axis=1)

    def walked(grid: np.ndarray, power: float) -> np.ndarray:
        maps = {item.id: Maps(np.array(item.labels[:1]), SIZE, (grid,), read=as_they_are)}
        one_step = WALKING | {"maps.walk_power": power, "exp_times": 0}
        return irn.masks(context(one_step, [item], maps=maps, affinity=network))(item)["label"]

    assert np.array_equal(walked(ramp, 3.0), walked(ramp**3, 1.0))
    assert (walked(ramp, 3.0) > 0).mean() < 0.8 * (walked(ramp, 1.0) > 0).mean()


@pytest.mark.parametrize(("background", "foreground"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_background_map_of_the_method_s_own_walks_and_takes_the_place_of_the_constant(trained, background, foreground):
    where, network, _ = trained
    item = where.items[0]
    planes = np.stack([np.full((12, 16), level, np.float32) for level in (background, 0.5)])
    maps = {item.id: Maps(np.array(item.labels[:1]), SIZE, (planes,), read=as_they_are)}
    settings = {name: value for name, value in WALKING.items() if name != "maps.walk_background"}
    found = irn.masks(context(settings, [item], maps=maps, affinity=network))(item)["label"]
    assert (found > 0).mean() == foreground


def test_masks_have_the_size_of_the_image_and_its_own_labels_alone(trained):
    where, network, _ = trained
    one = irn.masks(walking(where, network, {"padding": 96}))
    for item in where.items[:3]:
        found = one(item)["label"]
        assert found.shape == SIZE and found.dtype == np.uint8
        assert set(np.unique(found)) == {0, *(key + 1 for key in item.labels)}


def test_a_mask_is_the_walk_of_the_stage_s_own_settings(trained):
    where, network, _ = trained
    own = WALKING | {"padding": 72, "walk_radius": 3, "beta": 4.0, "exp_times": 2, "maps.walk_power": 1.5}
    own["maps.walk_background"] = 0.6
    seeds, (item, *_) = walking(where, network, own), where.items
    maps, (pair,) = seeds.inputs["maps"][item.id], pairs([load(item, [1.0], where.device)], where.device)
    with torch.no_grad():
        (edges,) = boundaries(network, pair, 72)
    walked = walk(maps.strided() ** 1.5, edges, radius=3, beta=4.0, exp_times=2)
    expected = irn.walked_labels(walked, maps.keys, SIZE, 0.6)
    assert 0 < (expected > 0).mean() < 1 and np.array_equal(irn.masks(seeds)(item)["label"], expected)


def test_an_image_without_classes_is_all_background(trained):
    where, network, _ = trained
    found = irn.masks(walking(where, network, seeds=False))(where.items[0])["label"]
    assert found.shape == SIZE and found.max() == 0
