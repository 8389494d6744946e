"""MCTformer: its mathematics, its training and its maps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import vit
from backbones.augmenting import Augmentation
from imagesets.errors import WrongInput
from maps.maps import Maps
from methods import mctformer
from orchestrator.planning.experiment import Request, experiment
from tests.two_colours import CLASSES, LOOP, SIZE, context, learnt, write_items
from training.stage import Settings

GOLDEN = {name: torch.from_numpy(array) for name, array in np.load(Path(__file__).parent / "golden" / "mctformer_v2.npz").items()}
TRAINING = {
    "backbone": vit.small_vit,
    "weights": "none",
    "version": 2,
    "drop_path": 0.0,
    "epochs": 20,
    "warm_up": 2,
    "batch": 8,
    "lr": 2e-3,
    "weight_decay": 0.05,
    "crop": 48,
    "least_area": 0.6,
    "policy": "none",
    "erasing": 0.0,
    **LOOP,
}
MAPS = {"blocks": 2, "attention_power": 1.0, "localisation": "fused", "scales": [1.0]}

KINDS = ("attention", "fused", "refined")


def close(found: torch.Tensor, name: str) -> None:
    torch.testing.assert_close(found, GOLDEN[name], rtol=1e-4, atol=1e-5)


def golden_head() -> mctformer.PatchHead:
    weight, bias = GOLDEN["head_weight"], GOLDEN["head_bias"]
    head = mctformer.PatchHead(weight.shape[1], len(weight), 3, padding=1)
    head.load_state_dict({"weight": weight, "bias": bias})
    return head


def golden_patches(view: str) -> torch.Tensor:
    return GOLDEN[f"{view}_x_patch"].transpose(1, 2).unflatten(2, tuple(GOLDEN["grid"].tolist()))


@torch.no_grad()
def golden_maps(view: str) -> torch.Tensor:
    attentions = [attention.float().mean(dim=0, keepdim=True) for attention in GOLDEN[f"{view}_attn"]]
    scores, classes = golden_head()(golden_patches(view)), len(GOLDEN["label"])
    seen = mctformer.class_attention(attentions[-3:], classes).view(scores.shape)
    affinity = mctformer.patch_affinity(attentions, classes)
    close(mctformer.token_logits(GOLDEN[f"{view}_x_cls"]), f"{view}_cls_logits")
    close(mctformer.patch_logits(scores), f"{view}_patch_logits")
    close(scores.relu(), f"{view}_patchcam")
    close(seen, f"{view}_mct_attn_K3")
    close(seen * scores.relu(), f"{view}_fused_K3")
    if view == "img":
        close(affinity[0], "img_patch_affinity_sum")
    return mctformer.refined(seen * scores.relu(), affinity)


@pytest.mark.parametrize("view", ["img", "flip"])
def test_logits_attention_and_refined_maps_are_the_golden_ones(view):
    close(golden_maps(view), f"{view}_refined")


def test_the_final_maps_are_the_golden_ones():
    keys = GOLDEN["final_keys"].numpy()
    grid = (golden_maps("img") + golden_maps("flip").flip(-1))[0, keys].numpy()
    maps = Maps(keys, tuple(GOLDEN["image_hw"].tolist()), (grid,), read=mctformer.read)
    close(maps.full()[:, ::4, ::4], "final_cam")


def test_losses_and_gradients_are_the_golden_ones():
    tokens, patches = GOLDEN["img_x_cls"].clone().requires_grad_(), GOLDEN["img_x_patch"].clone().requires_grad_()
    grid = patches.transpose(1, 2).unflatten(2, tuple(GOLDEN["grid"].tolist()))
    found = mctformer.losses(mctformer.token_logits(tokens), golden_head()(grid), GOLDEN["label"][None])
    close(found["class_tokens"], "loss_cls")
    close(found["classification"], "loss_patch")
    sum(found.values()).backward()
    close(tokens.grad, "grad_x_cls")
    close(patches.grad, "grad_x_patch")


def test_the_refinement_by_the_identity_changes_nothing():
    maps = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(mctformer.refined(maps, torch.eye(20).expand(2, 20, 20)), maps)


def test_the_rate_rises_for_the_warm_up_and_falls_to_its_floor_once_an_epoch():
    schedule = mctformer.warmed_up_cosine(6.25e-5, per_epoch=10, epochs=60, warm_up=5)
    rates = [6.25e-5 * schedule(step) for step in (0, 9, 10, 49, 50, 300, 599)]
    assert rates[0] == rates[1] == pytest.approx(1e-6) and rates[2] == pytest.approx(1e-6 + 6.15e-5 / 5)
    assert rates[3] < rates[4] and rates[5] == pytest.approx((6.25e-5 + 1e-5) / 2) and 1e-5 < rates[6] < 1.1e-5


def test_an_example_depends_on_its_generator_alone(tmp_path):
    (item,) = write_items(tmp_path, [(1,)], SIZE)
    sample = mctformer.AugmentedImage(Augmentation(32, (0.08, 1.0), "rand-m9-mstd0.5-inc1", 0.5), 2)
    first, torch_state = sample(item, np.random.default_rng(3)), torch.random.get_rng_state()
    torch.rand(5)
    second, other = sample(item, np.random.default_rng(3)), sample(item, np.random.default_rng(4))
    assert first["image"].shape == (3, 32, 32) and first["labels"].tolist() == [0, 1]
    assert torch.equal(first["image"], second["image"]) and not torch.equal(first["image"], other["image"])
    torch.random.set_rng_state(torch_state)
    expected = torch.rand(3)
    torch.random.set_rng_state(torch_state)
    sample(item, np.random.default_rng(3))
    assert torch.equal(torch.rand(3), expected)  # global generators go on as if nothing had happened


def test_tokens_codes_norms_and_biases_do_not_decay(tmp_path):
    items = write_items(tmp_path, [(0,)] * 8, SIZE)
    training = mctformer.training(context(TRAINING, items))
    decayed, free = training.optimiser.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0)
    assert all(value.ndim > 1 for value in decayed["params"])
    backbone = training.network.backbone
    assert {id(value) for value in (backbone.class_tokens, backbone.positions)} < {id(value) for value in free["params"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mctformer")
    items = write_items(folder, [((0,), (1,), (0, 1), ())[index % 4] for index in range(16)], SIZE)
    where = context(TRAINING, items)
    training = mctformer.training(where)
    history = learnt(training, where, folder)
    return items, where, training.network.eval(), history


def test_both_losses_fall(trained):
    *_, history = trained
    assert all(history[-1][name] < 0.8 * history[0][name] for name in ("classification", "class_tokens"))


def test_maps_are_those_of_the_image_s_own_classes_and_respond_to_their_objects(trained):
    items, _, network, _ = trained
    one, inside, outside = mctformer.maps(context(MAPS, [], network=network)), [], []
    for item in items:
        maps = Maps.of(one(item), mctformer.read)
        assert tuple(maps.keys) == item.labels and maps.full().shape == (len(item.labels), *SIZE)
        rgb = item.rgb().astype(int)
        for key, plane in zip(maps.keys, maps.full(), strict=True):
            there = torch.from_numpy(rgb[..., 2 * key] - rgb[..., 2 - 2 * key] > 150)
            inside.append(plane[there].mean())
            outside.append(plane[~there].mean())
            assert plane.min() == 0 and plane.max() == pytest.approx(1, abs=1e-3)
    assert np.mean(inside) > 1.5 * np.mean(outside)


def test_the_score_map_is_the_patch_branch_s_and_logits_are_the_mean_of_both_branches(trained):
    _, _, network, _ = trained
    images, labels = torch.randn(2, 3, 48, 64), torch.eye(2)
    with torch.no_grad():
        losses, outputs = mctformer.TokenObjective(network)({"image": images, "labels": labels}, 0)
        tokens, scores = network.branches(images)
        torch.testing.assert_close(outputs["scores"], scores)
        assert outputs["scores"].shape == (2, 2, 6, 8) and set(losses) == {"classification", "class_tokens"}
        torch.testing.assert_close(network(images), (tokens + scores.mean(dim=(2, 3))) / 2)


def test_maps_stop_at_attention_or_at_patch_scores_where_told(trained):
    _, _, network, _ = trained
    images, keys = torch.randn(2, 3, 48, 64), torch.tensor([1])
    with torch.no_grad():
        made = {told: network.maps(images, keys, Settings(MAPS | {"localisation": told})) for told in KINDS}
        attention, fused, refined = made.values()
        found = network.backbone.tokens(images, range(4))
        affinity = mctformer.patch_affinity([tokens.attention.mean(dim=1) for tokens in found], 2)
        torch.testing.assert_close(fused, attention * network.head(found[-1].patches)[:, keys].relu())
        torch.testing.assert_close(refined, mctformer.refined(fused, affinity))
        even = network.maps(images, keys, Settings(MAPS | {"localisation": "attention", "attention_power": 0.25}))
        torch.testing.assert_close(even, attention**0.25)


def test_probability_is_the_softmax_of_the_scores_of_a_constant_map(trained):
    _, _, network, _ = trained
    vectors = torch.randn(3, 64)
    with torch.no_grad():
        scores = network.head(vectors[:, :, None, None].expand(-1, -1, 3, 3))[:, :, 1, 1]
        torch.testing.assert_close(network.probability(vectors, 1), scores.softmax(dim=1)[:, 1])


def test_version_1_has_the_class_tokens_loss_and_maps_of_attention_alone(tmp_path):
    items = write_items(tmp_path, [(0,), (0, 1)] * 4, SIZE)
    training = mctformer.training(context(TRAINING | {"version": 1}, items))
    losses, outputs = training.objective({"image": torch.randn(2, 3, 48, 48), "labels": torch.eye(2)}, 0)
    assert set(losses) == {"classification"} and not outputs
    network = training.network.eval()
    assert network(torch.randn(2, 3, 48, 48)).shape == (2, 2)
    found = network.maps(torch.randn(2, 3, 48, 64), torch.tensor([1]), Settings(MAPS | {"localisation": "refined"}))
    assert found.shape == (2, 1, 6, 8) and (found > 0).all()


@pytest.mark.parametrize("method", ["mctformer+isl", "mctformer+fsl", "mctformer+lpcam"])
def test_what_needs_patch_scores_is_refused_behind_version_1(method):
    assert experiment(Request(method, "voc12:x"))
    with pytest.raises(WrongInput, match="mctformer does not provide"):
        experiment(Request(method, "voc12:x", assignments=("mctformer.version=1",)))


def test_at_published_settings_it_has_deit_and_gives_its_own_to_affinitynet_and_the_losses():
    found = experiment(Request("mctformer+isl+fsl", "voc12:x"))
    names = {name: found.settings[name] for name in ("mctformer.backbone", "backbone.name", "affinitynet.epochs", "isl.factor")}
    assert names == {"mctformer.backbone": "deit_small", "backbone.name": "resnet38d", "affinitynet.epochs": 5, "isl.factor": 0.1}
    assert found.settings["affinitynet.alphas"] == [1.0, 12.0] and found.settings["affinitynet.background"] == 0.39
    assert (found.settings["fsl.factor"], found.settings["fsl.upsampling"]) == (0.1, 4)
    assert "affinitynet-masks" in [stage.name for stage in found.stages]


def test_its_segmenter_on_voc_and_coco_is_the_published_one_unless_another_is_named():
    def segmenter(images: str, named: str = "") -> tuple[str, str]:
        found = experiment(Request("mctformer+isl", images, named))
        return found.stages[-2].component, found.settings["resnet38d.head"]

    assert segmenter("voc12:x") == segmenter("coco14:x") == ("resnet38d", "mctformer")
    assert segmenter("voc12:x", "resnet38d") == ("resnet38d", "seam")
    assert segmenter("voc12:x", "deeplabv2-resnet101")[0] == segmenter("folder:x")[0] == "deeplabv2"
    assert experiment(Request("cam", "voc12:x")).stages[-2].component == "deeplabv2"


def test_an_image_of_any_size_is_stretched_to_whole_patches():
    assert mctformer.to_whole_patches(torch.randn(2, 3, 17, 40), 8).shape == (2, 3, 24, 40)
    images = torch.randn(1, 3, 16, 24)
    assert torch.equal(mctformer.to_whole_patches(images, 8), images)


def test_a_trained_network_is_rebuilt_from_its_settings(trained):
    _, where, network, _ = trained
    rebuilt = mctformer.network(where.settings, CLASSES)
    rebuilt.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 48, 64)
    torch.testing.assert_close(rebuilt.eval()(images), network(images))
