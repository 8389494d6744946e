"""AffinityNet as stages: the scores of its labels, its training and its pseudo masks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import backbones
from backbones import resnet, resnet38d, vit
from imagesets.errors import WrongInput
from imagesets.item import Item
from maps.maps import Maps
from maps.reading import as_they_are
from orchestrator.planning.recipes import load_all
from refiners import affinitynet, crf
from refiners.affinity_network import AffinityNet
from tests.two_colours import LOOP, SIZE, context, learnt, truth, write_items
from training.stage import Context

SETS = load_all()["crf"].table
SCORING = {"alphas": [4.0, 24.0], "crf": SETS["seam"]}
TRAINING = {
    "epochs": 12,
    "batch": 4,
    "optimiser": "adamw",
    "lr": 1e-3,
    "momentum": 5e-4,
    "weight_decay": 5e-4,
    "colour": "jitter",
    "crop": 64,
    "frozen": "stem",
    "start": "network",
    "radius": 3,
    **LOOP,
}
WALKING = {"background_alpha": 6.0, "background": 0.0, "radius": 3, "beta": 8.0, "exp_times": 6}


def seeds(item: Item, own: float | None = None) -> Maps:
    """Maps that are 1 at the centre of each object and 0.3 around it, with a background map of value `own` if there is one."""
    planes = [np.full(SIZE, own, np.float32)] if own is not None else []
    for key in item.labels:
        inside = truth(item) == key + 1
        row, column = np.argwhere(inside).mean(axis=0).astype(int)
        plane = np.where(inside, np.float32(0.3), 0)
        plane[row - 5 : row + 5, column - 5 : column + 5] = 1
        planes.append(plane)
    return Maps(np.array(item.labels, np.int64), SIZE, (np.stack(planes) if planes else np.zeros((0, *SIZE)),), read=as_they_are)


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[Item]:
    return write_items(tmp_path_factory.mktemp("images"), [((0,), (1,), (0, 1))[index % 3] for index in range(8)], SIZE)


def classifier() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Module()
    module.backbone = backbones.build(resnet.small, frozen_statistics=False)
    return module


def prepared(items: list[Item], **values: object) -> Context:
    one = affinitynet.scores(context(SCORING, [], maps={item.id: seeds(item) for item in items}))
    return context(TRAINING | values, items, scores={item.id: one(item) for item in items}, network=classifier())


@pytest.mark.parametrize("alpha", [1, 4, 24])
def test_scores_are_the_golden_ones(alpha):
    golden = np.load(Path(__file__).parent / "golden" / "crf_labels.npz")
    maps = torch.from_numpy(golden["cams"])
    found = affinitynet.score_stacks(golden["img"], maps, 1 - maps.amax(dim=0), [alpha, 7.0], crf.Parameters(**SETS["seam"]))[0]
    np.testing.assert_allclose(found[:, ::2, ::2], golden[f"crf_alpha{alpha}"], atol=5e-3)
    assert (found.argmax(axis=0) == golden[f"crf_alpha{alpha}_argmax"]).mean() >= 0.99


def test_whole_255ths_give_the_labels_of_the_exact_scores():
    golden = np.load(Path(__file__).parent / "golden" / "crf_labels.npz")
    maps = torch.from_numpy(golden["cams"])
    exact = affinitynet.score_stacks(golden["img"], maps, 1 - maps.amax(dim=0), [1.0, 24.0], crf.Parameters(**SETS["seam"]))
    labels = [
        affinitynet.grid_labels(
            affinitynet.pooled(torch.from_numpy(stacks).flatten(0, 1)).unflatten(0, (2, -1)).numpy(), golden["keys"]
        )
        for stacks in (exact, np.rint(255 * exact).astype(np.uint8))
    ]
    assert np.array_equal(*labels) and set(np.unique(labels[0])) > {0, 255}


def test_a_background_map_of_the_method_s_own_takes_the_place_of_the_implied_one(items):
    own = affinitynet.implied_background(seeds(items[2], own=0.7))
    assert (own == 0.7).all()
    implied = affinitynet.implied_background(seeds(items[2]))
    assert implied.min() == 0 and implied.max() == 1


def test_an_example_is_a_crop_with_its_labels_on_the_stride_8_grid(items):
    where = prepared(items)
    example = affinitynet.training(where).sample(items[2], np.random.default_rng(0))
    assert example["image"].shape == (4, 64, 64) and example["image"].dtype == torch.uint8
    assert example["label"].shape == (8, 8) and example["label"].dtype == torch.uint8
    outside = example["image"][3].unfold(0, 8, 8).unfold(1, 8, 8).amax(dim=(2, 3)) == 0
    assert outside.any() and (example["label"][outside] == 255).all()
    assert {0, 1, 2} <= set(example["label"].unique().tolist())


def test_an_image_without_classes_is_background_in_training_and_after(items):
    item = Item("empty", items[0].image, ())
    record = affinitynet.scores(context(SCORING, [], maps={"empty": seeds(item)}))(item)
    sample = affinitynet.ScoredCrop({"empty": record}, 32, None)
    assert (sample(item, np.random.default_rng(0))["label"] == 0).all()
    module = AffinityNet(classifier().backbone).eval()
    found = affinitynet.masks(context(WALKING, [], maps={"empty": seeds(item)}, affinity=module))(item)["label"]
    assert found.shape == SIZE and found.max() == 0


def test_without_initial_weights_the_backbone_is_that_of_the_network_before_and_its_first_part_is_frozen(items):
    module = affinitynet.training(prepared(items)).network
    state = classifier().backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in module.backbone.state_dict().items())
    assert not module.backbone.conv1.weight.requires_grad and module.backbone.layer1[0].conv1.weight.requires_grad
    with pytest.raises(WrongInput, match=r"set backbone\.weights"):
        affinitynet.training(prepared(items, **{"backbone.name": resnet.resnet18}))


def test_from_scratch_the_whole_backbone_trains_with_live_batch_norms_and_reads_no_network(items):
    training = affinitynet.training(prepared(items, start="scratch"))
    trained = {name for group in training.optimiser.param_groups for value in group["params"] for name in [id(value)]}
    assert trained == {id(value) for value in training.network.parameters()}
    assert training.network.train().backbone.bn1.training
    assert not torch.equal(training.network.backbone.conv1.weight, classifier().backbone.conv1.weight)


def test_new_layers_train_at_ten_times_the_rate_and_biases_at_twice_without_decay(items):
    groups = affinitynet.training(prepared(items, lr=0.01)).optimiser.param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.01, 5e-4), (0.02, 0), (0.1, 5e-4), (0.2, 0)]
    assert len(groups[2]["params"]) == 4 and not groups[3]["params"]


@pytest.mark.parametrize("build", [resnet.small, vit.small_vit, lambda **o: resnet38d.ResNet38d(width=1, frozen_statistics=True)])
def test_any_backbone_gives_vectors_on_the_stride_8_grid(build):
    module = AffinityNet(backbones.build(build, frozen_statistics=True)).eval()
    vectors = module(torch.zeros(1, 3, 37, 50))
    assert vectors.shape == (1, 256 if len(module.backbone.channels) == 1 else 448, 5, 7)


@pytest.fixture(scope="module")
def trained(items, tmp_path_factory) -> tuple[nn.Module, list[dict[str, float]]]:
    where = prepared(items)
    torch.manual_seed(2)
    training = affinitynet.training(where)
    history = learnt(training, where, tmp_path_factory.mktemp("run"))
    return training.network.eval(), history


def test_the_losses_fall_in_training(trained):
    totals = [sum(value for name, value in epoch.items() if name.endswith("affinity")) for epoch in trained[1]]
    assert totals[-1] < 0.7 * totals[0]


def walking(items: list[Item], module: nn.Module, own: float | None = None, **values: object) -> Context:
    return context(WALKING | values, [], maps={item.id: seeds(item, own) for item in items}, affinity=module)


def test_the_walk_makes_masks_fit_their_objects_better_than_the_seeds_did(items, trained):
    where = walking(items, trained[0])
    one, overlap, before = affinitynet.masks(where), [], []
    for item in items:
        found, expected = one(item)["label"], truth(item)
        assert found.shape == SIZE and found.dtype == np.uint8 and set(np.unique(found)) <= {0, *(key + 1 for key in item.labels)}
        overlap.append(((found == expected) & (expected > 0)).sum() / ((found > 0) | (expected > 0)).sum())
        strong = where.inputs["maps"][item.id].full().amax(dim=0).numpy() > 0.5
        before.append((strong & (expected > 0)).sum() / (expected > 0).sum())
    assert np.mean(overlap) > 1.5 * np.mean(before)


@pytest.mark.parametrize(("constant", "share"), [(1.0, 0.0), (0.001, 0.5)])
def test_a_constant_background_walks_in_place_of_the_power(items, trained, constant, share):
    found = affinitynet.masks(walking(items, trained[0], background=constant))(items[2])["label"]
    assert (found > 0).mean() == 0 if share == 0 else (found > 0).mean() > share


@pytest.mark.parametrize(("background", "foreground"), [(0.0, True), (1.0, False)])
def test_a_background_map_of_the_method_s_own_walks(items, trained, background, foreground):
    found = affinitynet.masks(walking(items, trained[0], own=background))(items[2])["label"]
    assert found.any() == foreground


@pytest.mark.parametrize("size", [(3, 70), (70, 3), (17, 20)])
def test_images_whose_grid_is_smaller_than_the_radius_have_masks(tmp_path, trained, size):
    (item,) = write_items(tmp_path, [(0,)], (max(size[0], 48), max(size[1], 64)))
    rgb = np.array(item.rgb())[: size[0], : size[1]]
    Image.fromarray(rgb).save(item.image)
    planes = np.ones((1, *size), np.float32)
    maps = {item.id: Maps(np.array([0]), size, (planes,), read=as_they_are)}
    found = affinitynet.masks(context(WALKING | {"radius": 5}, [], maps=maps, affinity=trained[0]))(item)["label"]
    assert found.shape == size and (found == 1).all()
