import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maps.maps import Maps
from maps.reading import unit_maximum
from methods import cam, sipe
from tests import two_colours
from tests.golden_vectors import golden
from tests.two_colours import CLASSES, SHARED, context, learnt, write_items
from training import optimisers
from training.stage import Settings

TRAINING = two_colours.TRAINING | {"epochs": 8, "lr": 3e-3, "head_lr": 3e-3, "clip": 1.0, "consistency": 1.0, "frozen": "layer2"}


class Taps(nn.Module):
    """Takes given feature maps for images."""

    def __init__(self, data: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.channels = tuple(data[f"w_side{number}"].shape[1] for number in (1, 2, 3, 4))

    def forward(self, taps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return taps


def golden_network(data: dict[str, torch.Tensor]) -> sipe.SIPE:
    network = sipe.SIPE(Taps(data), 20)
    for number, side in enumerate(network.sides, start=1):
        side.weight = nn.Parameter(data[f"w_side{number}"][..., None, None])
    network.classifier.weight = nn.Parameter(data["w_classifier"][..., None, None])
    return network


def taps_of(data: dict[str, torch.Tensor], prefix: str = "") -> tuple[torch.Tensor, ...]:
    return tuple(data[f"{prefix}x{number}"].clone().requires_grad_() for number in (1, 2, 3, 4))


def test_maps_seeds_prototypes_losses_and_gradients_are_the_golden_ones():
    data = golden("sipe_train")
    network, taps = golden_network(data), taps_of(data)
    _, features, hierarchy = network.scores_and_features(taps)
    shown = sipe.where_shown(data["valid_mask"][:, 0], data["label"], features.shape[2:])
    general = sipe.general_maps(network.classifier(features)) * shown
    own = sipe.seeds(general, features, shown)
    found = sipe.prototypes(own, hierarchy)
    assert torch.equal(shown, data["valid_lowres"]) and torch.equal(own, data["seeds"])
    raw = sipe.specific_maps(hierarchy, found)
    pairs = {"norm_cam": general, "hie_fea": hierarchy, "prototypes": found, "IS_cam_raw": raw}
    pairs |= {"IS_cam": unit_maximum(raw), "probs": sipe.overlaps(general, features).softmax(dim=1)}
    for name, tensor in pairs.items():
        torch.testing.assert_close(tensor.detach(), data[name], rtol=1e-4, atol=1e-5)
    batch = {"image": taps, "labels": data["label"], "covered": data["valid_mask"][:, 0]}
    losses, outputs = sipe.PrototypeObjective(network, 1.0)(batch, 0)
    torch.testing.assert_close(outputs["logits"].detach(), data["score"], rtol=1e-4, atol=1e-5)
    trained = [network.classifier.weight, *(side.weight for side in network.sides), taps[3]]
    for loss, short in (("classification", "cls"), ("consistency", "gsc")):
        torch.testing.assert_close(losses[loss].detach(), data[f"loss_{short}"], rtol=1e-4, atol=1e-5)
        gradients = torch.autograd.grad(losses[loss], [*trained, *taps[:3]], allow_unused=True, retain_graph=True)
        assert gradients[6:] == (None, None, None)  # earlier maps reach the losses through detached sides alone
        for name, gradient in zip(["classifier", "side1", "side2", "side3", "side4", "x4"], gradients, strict=False):
            if f"g{short}_{name}" in data:
                torch.testing.assert_close(
                    gradient.view_as(data[f"g{short}_{name}"]), data[f"g{short}_{name}"], rtol=1e-4, atol=1e-5
                )


def test_fused_maps_of_scales_and_their_labels_are_the_golden_ones(monkeypatch):
    monkeypatch.setattr(sipe, "ROWS", 5)  # several blocks, the last of them smaller
    data = golden("sipe_infer")
    network, keys, grids = golden_network(data), data["keys"][data["keys"] > 0] - 1, []
    for scale in (0, 1):
        scores, _, hierarchy = network.scores_and_features(taps_of(data, f"s{scale}_"))
        scores, hierarchy = (both[:1] + both[1:].flip(-1) for both in (scores, hierarchy))
        torch.testing.assert_close(sipe.general_maps(scores)[0].detach(), data[f"s{scale}_norm_cam"], rtol=1e-4, atol=1e-5)
        found = sipe.maps_of_images(scores, hierarchy, nn.functional.pad(data["label"], (1, 0), value=1)[None])[0].detach()
        torch.testing.assert_close(found, data[f"s{scale}_IS_cam"], rtol=1e-4, atol=1e-5)
        grids.append(found[data["keys"].long()].numpy())
    size = tuple(data["out_size"].tolist())
    planes = sipe.read(Maps(keys.numpy(), size, tuple(grids)), full=True)
    torch.testing.assert_close(planes[:, ::3, ::3], data["fused"], rtol=1e-4, atol=1e-5)
    assert (data["keys"][planes.argmax(dim=0)] == data["pred"]).float().mean() > 0.999


def random_parts(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Maps in 0..1 of background and two classes [1,3,4,5], features [1,6,4,5], and where both classes are shown."""
    generator = torch.Generator().manual_seed(seed)
    maps, features = torch.rand((1, 3, 4, 5), generator=generator), torch.randn((1, 6, 4, 5), generator=generator)
    return maps, features, torch.ones(1, 3, 1, 1)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3))
def test_scaling_a_prototype_changes_no_map(seed, factors):
    maps, features, shown = random_parts(seed)
    found = sipe.prototypes(sipe.seeds(maps, features, shown), features)
    scaled = found * torch.tensor(factors)[None, :, None]
    torch.testing.assert_close(sipe.specific_maps(features, scaled), sipe.specific_maps(features, found))


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_overlaps_are_those_of_whole_rows_written_out(seed):
    maps, features, _ = random_parts(seed)
    vectors = nn.functional.normalize(features[0].flatten(1), dim=0)
    affinity = (vectors.T @ vectors).relu()
    for label, plane in enumerate(maps[0].flatten(1)):
        common = affinity @ plane
        whole = common / (affinity.sum(dim=1) + plane.sum() - common) * (0.5 if label == 0 else 1)
        torch.testing.assert_close(sipe.overlaps(maps, features)[0, label].flatten(), whole, rtol=1e-3, atol=1e-5)


def test_a_position_of_features_like_those_under_a_map_is_its_seed():
    features = torch.zeros(1, 2, 1, 4)
    features[0, 0, 0, :2], features[0, 1, 0, 2:] = 1, 1  # the left half is alike, and so is the right
    maps = torch.tensor([[[0.1, 0.1, 0.9, 0.9]], [[0.9, 0.0, 0.0, 0.0]]])[None]  # the class is found in one position only
    own = sipe.seeds(maps, features, torch.ones(1, 2, 1, 1))
    assert own[0, 1, 0].tolist() == [1, 1, 0, 0] and own[0, 0, 0].tolist() == [0, 0, 1, 1]
    found = sipe.specific_maps(features, sipe.prototypes(own, features))
    assert found[0, 1, 0].tolist() == [1, 1, 0, 0]


def test_nothing_is_found_outside_of_the_image_nor_of_a_class_that_it_does_not_show():
    covered = torch.zeros(1, 4, 4, dtype=torch.uint8)
    covered[:, :, :2] = 1
    shown = sipe.where_shown(covered, torch.tensor([[1.0, 0.0]]), (2, 2))
    assert shown.tolist() == [[[[1, 0], [1, 0]], [[1, 0], [1, 0]], [[0, 0], [0, 0]]]]


def test_features_and_maps_of_zeros_give_zeros_and_finite_gradients():
    features = torch.zeros(1, 6, 4, 5, requires_grad=True)
    own = sipe.seeds(torch.zeros(1, 3, 4, 5), features, torch.ones(1, 3, 1, 1))
    found = sipe.specific_maps(features, sipe.prototypes(own, features))
    found.sum().backward()
    assert (found == 0).all() and torch.isfinite(features.grad).all()


def test_a_clipped_gradient_has_the_norm_that_was_asked_for_and_a_smaller_one_stays():
    for gradient, expected in ((30.0, [-0.6, -0.8]), (0.3, [-0.3, -0.4])):
        weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
        groups = optimisers.groups(0.0, (weights[:1], 1.0), (weights[1:], 1.0))
        optimiser = optimisers.clipped(optimisers.build("sgd", groups), 1.0)
        weights[0].grad, weights[1].grad = torch.tensor([gradient]), torch.tensor([gradient * 4 / 3])
        optimiser.step()
        torch.testing.assert_close(
            torch.cat(weights).detach()[:2], torch.tensor(expected) * min(1, gradient / 0.3), rtol=1e-5, atol=1e-6
        )


def test_float16_clips_the_gradient_without_the_scale_of_its_loss():
    weight = nn.Parameter(torch.zeros(2))
    optimiser = optimisers.clipped(optimisers.build("sgd", optimisers.groups(0.0, ([weight], 1.0))), 1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((weight * torch.tensor([0.3, 0.4])).sum()).backward()  # of norm 0.5: not to be clipped
    scaler.step(optimiser)
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.3, -0.4]))


def test_with_initial_weights_everything_up_to_layer2_is_frozen(tmp_path):
    torch.save(resnet_state(), tmp_path / "weights.pt")
    given_weights = TRAINING | {"backbone.weights": str(tmp_path / "weights.pt")}
    network = sipe.training(context(given_weights, write_items(tmp_path, [(0,)] * 8))).network
    trained = {name.split(".")[1] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"layer3", "layer4", "weight", "0", "1", "2", "3"} and network.backbone.frozen_statistics


def resnet_state() -> dict[str, torch.Tensor]:
    return cam.network(Settings(SHARED), CLASSES).backbone.state_dict()


def test_it_learns_and_its_maps_lie_on_their_objects_before_a_background_of_their_own(tmp_path):
    items = write_items(tmp_path, [(0,), (1,), (0, 1), ()] * 4)
    where = context(TRAINING, items)
    training = sipe.training(where)
    history = learnt(training, where, tmp_path)
    assert history[-1]["classification"] < 0.3 * history[0]["classification"]
    assert history[-1]["consistency"] < history[0]["consistency"]
    one = sipe.maps(context({"scales": [1.0, 2.0]}, items, network=training.network.eval()))
    maps = Maps.of(one(items[2]), sipe.read)
    assert maps.keys.tolist() == [0, 1] and maps.full().shape == (2, 48, 64) and maps.background(full=True).shape == (48, 64)
    best = torch.cat([maps.background(full=True)[None], maps.full()]).argmax(dim=0)
    columns = [(best == label).float().sum(dim=0).argmax() for label in (1, 2)]  # red is drawn left, blue right
    assert columns[0] < 32 < columns[1] and (best == 0).float().mean() > 0.1
    assert Maps.of(one(items[3]), sipe.read).full().shape == (0, 48, 64)
