from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imagesets.errors import WrongInput
from maps.maps import Maps
from maps.reading import divided_by_maximum
from methods import cam, spatial_bce
from orchestrator.planning.recipes import load_all
from refiners import class_areas
from tests import two_colours
from tests.two_colours import CLASSES, SHARED, context, learnt, write_items
from training.stage import Settings

GOLDEN = {key: torch.from_numpy(array) for key, array in np.load(Path(__file__).parent / "golden" / "spatial_bce.npz").items()}
TRAINING = two_colours.TRAINING | {
    "backbone": SHARED["backbone.name"],
    "weights": "none",
    "epochs": 15,
    "lr": 1e-3,
    "head_lr": 3e-4,
    "side": 48,
    "stride": 8,
    "scale": 10.0,
    "area_weight": 10.0,
    "frozen": "none",
}
MAPS = {"scales": [1.0, 2.0], "thresholds": "adaptive"}
CRF = {"crf": load_all()["crf"].table["spatial-bce"]}


def given_scores(name: str = "x") -> torch.Tensor:
    return GOLDEN[name].clone().requires_grad_()


def test_the_loss_of_positions_and_its_gradient_are_the_golden_ones():
    scores, labels, areas = given_scores(), GOLDEN["label"], GOLDEN["fg_ratio"]
    cuts = spatial_bce.thresholds_by_area(scores.sigmoid().flatten(0, 1).flatten(1), areas.flatten())
    torch.testing.assert_close(cuts.view_as(areas)[labels > 0], GOLDEN["threshold_phase_a"][labels > 0], rtol=1e-4, atol=1e-6)
    loss = spatial_bce.spatial_loss(scores, labels, areas)
    torch.testing.assert_close(loss.detach(), GOLDEN["loss_phase_a"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(loss, scores)[0], GOLDEN["grad_x_phase_a"], rtol=1e-4, atol=1e-6)


def test_the_loss_of_thresholds_and_its_gradient_are_the_golden_ones():
    thresholds = given_scores("threshold_logits")
    loss = spatial_bce.threshold_loss(thresholds, GOLDEN["x"].sigmoid(), GOLDEN["label"])
    torch.testing.assert_close(loss.detach(), GOLDEN["loss_phase_b"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(loss, thresholds)[0], GOLDEN["grad_thr_phase_b"], rtol=1e-4, atol=1e-6)


def test_the_loss_of_the_mean_and_its_gradient_are_the_golden_ones():
    scores = given_scores()
    loss = spatial_bce.area_loss(scores, GOLDEN["label"], GOLDEN["fg_ratio"])
    torch.testing.assert_close(loss.detach(), GOLDEN["loss_kl"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(loss, scores)[0], GOLDEN["grad_x_kl"], rtol=1e-4, atol=1e-6)


class Given(nn.Module):
    """Takes features for images."""

    channels = (16,)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor]:
        return (features.relu(),)


def golden_network() -> spatial_bce.SpatialBCE:
    network = spatial_bce.SpatialBCE(Given(), 20, scale=10.0)
    for layer, name in ((network.reduction, "w_down"), (network.classifier, "w_fc"), (network.threshold, "w_thr")):
        layer.weight = nn.Parameter(GOLDEN[f"head_{name}"][..., None, None])
    network.temperature = nn.Parameter(GOLDEN["head_log_temp"])
    return network


@torch.no_grad()
def test_logits_with_and_without_their_scales_and_the_branch_are_the_golden_ones():
    network = golden_network()
    logits, thresholds = network(GOLDEN["head_feat"])
    torch.testing.assert_close(logits, GOLDEN["head_cam_logits"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.scaled(logits), GOLDEN["head_logits"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(thresholds, GOLDEN["head_threshold"], rtol=1e-4, atol=1e-5)


def test_a_threshold_without_scale_is_the_golden_one_and_lies_at_the_level_of_a_stretched_map():
    keys, given_maps = GOLDEN["conv_keys"].long(), GOLDEN["conv_cam_in"]
    cuts = spatial_bce.unscaled_thresholds(GOLDEN["conv_threshold"].logit()[keys], GOLDEN["head_log_temp"][keys])
    above = given_maps > cuts[:, None, None]
    found = torch.where(above, given_maps - cuts[:, None, None], -1)
    torch.testing.assert_close(found, GOLDEN["conv_cam_out"], rtol=0, atol=1e-5)
    maps = spatial_bce.with_thresholds_at(given_maps, cuts, 0.3)
    assert torch.equal(maps > 0.3, above) and (maps.amax(dim=(1, 2)) == 1).all() and (maps >= 0).all()
    assert torch.equal(maps.flatten(1).argsort(), given_maps.flatten(1).argsort())  # the order stays


probability = st.floats(0.01, 0.99).map(lambda value: torch.tensor(value, dtype=torch.float64))


@settings(max_examples=50)
@given(probability, probability)
def test_the_loss_of_a_position_is_greatest_at_the_threshold_and_pushes_away_from_it(cut, share):
    one = torch.ones((), dtype=torch.float64)
    for loss in (spatial_bce.low_loss, spatial_bce.high_loss):
        at = cut.clone().requires_grad_()
        slope = torch.autograd.grad(loss(at, cut), at)[0]
        torch.testing.assert_close(loss(cut, cut), one)
        torch.testing.assert_close(slope, 0 * one, rtol=0, atol=1e-9)
    assert 0 < spatial_bce.low_loss(share * cut, cut) < 1 and 0 < spatial_bce.high_loss(cut + share * (1 - cut), cut) < 1
    assert spatial_bce.low_loss(0 * one, cut) == spatial_bce.high_loss(one, cut) == 0


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_threshold_by_area_leaves_the_share_above_it(share):
    values = torch.arange(1, 9)[None] / 10
    cut = spatial_bce.thresholds_by_area(values, torch.tensor([share]))
    assert (values > cut).sum() == min(round(8 * share), 7)  # a whole image's threshold is its last position


def test_images_without_classes_have_only_the_loss_of_absent_classes():
    scores, none = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3)
    assert spatial_bce.spatial_loss(scores, none, none).item() == pytest.approx(log(2))
    assert spatial_bce.area_loss(scores, none, none) == spatial_bce.threshold_loss(scores, scores.sigmoid(), none) == 0


def test_the_loss_of_the_mean_is_0_where_the_mean_is_the_share():
    scores = torch.full((1, 2, 3, 3), 0.25).logit()
    assert spatial_bce.area_loss(scores, torch.tensor([[1.0, 0]]), torch.tensor([[0.25, 0]])).item() == pytest.approx(0, abs=1e-6)


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"image": torch.randn(2, 3, 48, 48), "labels": torch.tensor([[1.0, 0], [1, 1]]), "areas": torch.full((2, 2), 0.2)}


@pytest.mark.parametrize("step", [0, 79, 80, 199])
def test_four_fifths_of_a_cycle_train_the_classifier_and_the_rest_the_branch(step):
    network = spatial_bce.network(Settings(TRAINING), CLASSES)
    losses, outputs = spatial_bce.PositionObjective(network, 1.0)(batch(), step)
    own = "classification" if step < 80 else "threshold"
    assert losses.keys() == {"area", own} and outputs["scores"].shape == (2, 2, 6, 6)
    losses[own].backward()
    learnt = {name for name, part in network.named_parameters() if part.grad is not None and not name.startswith("backbone.")}
    assert learnt == ({"threshold.weight"} if own == "threshold" else {"reduction.weight", "classifier.weight", "temperature"})


def shares(items: list) -> dict[str, dict[str, np.ndarray]]:
    """An object is 20 pixels high and wide in an image of 48x64."""
    return {item.id: {"areas": item.multi_hot(2) * np.float32(400 / 3072)} for item in items}


def test_the_second_training_goes_on_from_the_first_and_a_scale_has_no_weight_decay(tmp_path):
    items, before = write_items(tmp_path, [(0,)] * 8), cam.network(Settings(SHARED), CLASSES)
    begun = spatial_bce.training(context(TRAINING, items, areas=shares(items), network=before)).network
    images = torch.randn(2, 3, 48, 48)
    logits, scores = begun.eval()(images)[0], before.classifier(begun.backbone(images)[-1])
    torch.testing.assert_close(logits, scores)
    assert torch.equal(begun.backbone.conv1.weight, before.backbone.conv1.weight)
    first = spatial_bce.training(context(TRAINING, items, areas=shares(items))).network
    second = spatial_bce.training(context(TRAINING, items, areas=shares(items), network=first))
    for mine, theirs in zip(second.network.parameters(), first.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    decays = {parameter: group["weight_decay"] for group in second.optimiser.param_groups for parameter in group["params"]}
    assert decays.pop(second.network.temperature) == 0 and set(decays.values()) == {TRAINING["weight_decay"]}
    assert len(decays) == len(list(second.network.parameters())) - 1


def test_momentum_carries_on_where_a_cycle_changes_what_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(spatial_bce, "CYCLE", 3)
    monkeypatch.setattr(spatial_bce, "CLASSIFIER", 2)
    items = write_items(tmp_path, [(0,), (1,)] * 4)
    where = context(TRAINING | {"optimiser": "sgd", "momentum": 0.9, "batch": 2, "epochs": 2}, items, areas=shares(items))
    first, second = learnt(spatial_bce.training(where), where, tmp_path)
    assert first.keys() == second.keys() == {"epoch", "area", "classification", "threshold"}


def test_augmented_images_follow_their_own_generator_alone(tmp_path):
    items = write_items(tmp_path, [(0,)])
    sample = spatial_bce.AugmentedSquare(shares(items), 48, 2)
    torch.manual_seed(1)
    made = [sample(items[0], np.random.default_rng(seed))["image"] for seed in range(4)]
    before = torch.random.get_rng_state()
    again = sample(items[0], np.random.default_rng(0))["image"]
    assert torch.equal(again, made[0]) and torch.equal(torch.random.get_rng_state(), before)
    assert made[0].shape == (4, 48, 48) and any(not torch.equal(one, made[0]) for one in made)


def test_it_learns_and_its_maps_cover_their_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(spatial_bce, "rand_augmented", lambda rgb, rng: rgb)  # it changes colours, and these classes are colours
    items = write_items(tmp_path, [(0,), (1,), (0, 1), ()] * 4)
    where = context(TRAINING, items, areas=shares(items))
    training = spatial_bce.training(where)
    training.network.backbone.frozen_statistics = False  # no network before it has learnt any
    history = learnt(training, where, tmp_path)
    assert history[-1]["classification"] < 0.7 * history[0]["classification"]
    one = spatial_bce.maps(context(MAPS, items, network=training.network.eval()))
    maps = Maps.of(one(items[2]), spatial_bce.read)
    columns = maps.full().sum(dim=1).argmax(dim=1)  # red is drawn left, blue right
    assert maps.full().shape == (2, 48, 64) and columns[0] < 32 < columns[1]
    assert Maps.of(one(items[3]), spatial_bce.read).full().shape == (0, 48, 64)
    fixed = Maps.of(
        spatial_bce.maps(context(MAPS | {"thresholds": "fixed"}, items, network=training.network))(items[2]), spatial_bce.read
    )
    assert not fixed.extras and fixed.full().amax(dim=(1, 2)).tolist() == pytest.approx([1, 1])


def test_a_share_is_that_of_the_seeds_after_the_crf(tmp_path):
    items = write_items(tmp_path, [(1,), ()])
    plane = np.zeros((1, 48, 64), np.float32)
    plane[0, 10:30, 40:60] = 1
    found = {
        "image0": Maps(np.array([1]), (48, 64), (plane,), read=divided_by_maximum),
        "image1": Maps(np.zeros(0, np.int64), (48, 64), (), read=divided_by_maximum),
    }
    one = class_areas.areas(context({"maps.seed_threshold": 0.3} | CRF, items, maps=found))
    red, blue = one(items[0])["areas"]
    assert red == 0 and blue == pytest.approx(400 / 3072, rel=0.3)
    assert one(items[1])["areas"].tolist() == [0, 0]


def test_shares_of_a_file_are_read_and_what_is_wrong_with_one_is_said_before_anything_runs(tmp_path):
    items, path = write_items(tmp_path, [(1,), ()]), tmp_path / "areas.csv"
    path.write_text("image,class,area\nimage0,blue,0.25\n")
    where = context({"areas": str(path)}, items)
    assert class_areas.area_problems(where) == [] and class_areas.area_problems(context({"areas": "none"}, items)) == []
    assert class_areas.first_areas(where)(items[0])["areas"].tolist() == [0, 0.25]
    path.write_text("image,class,area\nimage0,blue,0.25\n", encoding="utf-8-sig")  # as Excel writes it
    assert class_areas.area_problems(where) == []
    path.write_text("image,class,area\nimage0,cafe\N{COMBINING ACUTE ACCENT},0.25\n", encoding="utf-8")
    assert class_areas.read_areas(path, ("caf\N{LATIN SMALL LETTER E WITH ACUTE}",)) == {("image0", 0): 0.25}
    path.write_text("image,class,area\nimage0,caf\N{LATIN SMALL LETTER E WITH ACUTE},0.25\n", encoding="latin1")
    assert f"{path} cannot be read as CSV" in class_areas.area_problems(where)[0]
    path.write_text("image,class,area\n")
    assert "first that it lacks is class blue in image image0" in class_areas.area_problems(where)[0]
    path.write_text("image,class,area\nimage0,blue,0\nimage0,red,0.5\n")  # image0 has no label red
    assert "has the area 0 for every class of every image" in class_areas.area_problems(where)[0]
    path.write_text("image,class,area\nimage0,blue,0.25\nimage0,blue,0.3\n")
    assert class_areas.area_problems(where) == [f"{path}, line 3: the class blue of image image0 is there twice"]
    for line in ("image0,green,0.25", "image0,blue,1.5", "image0,blue", "image0,blue,nan"):
        path.write_text(f"image,class,area\n{line}\n")
        assert "line 2: it must hold an image id, a class" in class_areas.area_problems(where)[0]
        with pytest.raises(WrongInput):
            class_areas.read_areas(path, CLASSES)
