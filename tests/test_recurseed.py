"""RecurSeed: the golden chain of targets, the schedule, the authors' checkpoint, and what must hold whatever the images."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import backbones
from backbones.extraction import for_extraction
from backbones.resnet import small
from imagesets.item import VOID, Item
from imagesets.transforms import normalise
from maps.grids import resize
from methods import recurseed, recurseed_maps, recurseed_targets
from methods.recurseed import PlacedCrop, RecurSeedObjective, averaged
from methods.recurseed_network import RecurSeed
from methods.recurseed_targets import Making, in_cells, normalised_cams, pooled, recursion_loss, targets
from orchestrator.engine.context import importing, settings_of
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.recipes import entries
from orchestrator.planning.references import resolve
from orchestrator.planning.stage import Stage
from refiners import pamr
from refiners.edge_predict import predicted
from segmentation.deeplab_v3plus import LOW, Decoder
from segmentation.losses import cross_entropy
from tests.golden_vectors import golden
from training.average import AveragedCopy, ramped
from training.optimisers import poly
from training.stage import Context, Settings, Training

CLASSES, SIDE = 4, 32
MAKING = Making(layers=(2, 1), stride=8)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def a_network(classes: int = CLASSES) -> RecurSeed:
    torch.manual_seed(0)
    backbone = backbones.build(small, frozen_statistics=False)
    return RecurSeed(backbone, classes, Decoder((32, 256), classes + 1, (1, 2), low=(8, 1), width=8))


def a_batch(labels: list[list[int]], valid: list[int] | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    rectangle = torch.tensor(valid or [0, 0, SIDE, SIDE])
    return {
        "image": torch.randn(len(labels), 3, SIDE, SIDE),
        "labels": torch.tensor(labels).float(),
        "valid": rectangle.expand(len(labels), 4),
    }


def a_pass(seed: int, labels: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Taps, CAM logits and images of a made-up network."""
    torch.manual_seed(seed)
    count, classes = labels.shape
    taps = [torch.rand(count, 6, 8, 8), torch.rand(count, 9, 4, 4)]
    return taps, torch.randn(count, classes, 4, 4), torch.randn(count, 3, SIDE, SIDE)


def test_the_chain_of_targets_is_the_golden_one() -> None:
    data = golden("recurseed_target")
    labels, window, size = data["image_label"], data["window_y0x0y1x1"][None].long(), data["image"].shape[2:]
    taps, making = (data["feat1"], data["feat2"]), Making(layers=(1, 2), stride=4)
    cams = normalised_cams(data["cam_raw"], labels)
    close(cams, data["cam"], 1e-6)
    spread = recurseed_targets.spread(taps, cams, size, making) * labels[:, :, None, None]
    close(spread, data["m_scg"], 1e-4)
    close(resize(spread, size), data["m_scg_up"], 1e-4)
    recursion, target = targets(taps, data["cam_raw"], data["image"], labels, window, size, making)
    close(recursion, data["m_rs"], 1e-4)
    assert (target[0] != data["m_seg"]).float().mean() <= 0.005
    close(resize(recursion, cams.shape[-2:]), data["rec_target"], 1e-4)
    close(recursion_loss(data["cam_raw"], recursion, labels), data["rec_loss"][0], 1e-5)


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of the authors' checkpoint; each tensor repeats its number in the file."""
    shapes = json.loads((Path(__file__).parent / "golden/rsepm_state_dict_shapes.json").read_text())
    return {name: torch.tensor(place).expand(shape) for place, (name, shape) in enumerate(shapes.items())}


def imported(file: Path) -> Stage:
    """The stage that imports a network for recurseed on VOC."""
    wanted = experiment(Request("recurseed", "voc12:x", assignments=(f"imported.network={file}",)))
    return next(stage for stage in wanted.stages if stage.name == "imported-network")


def test_the_authors_checkpoint_is_loaded_whole(checkpoint: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(checkpoint, tmp_path / "rsepm.pth")
    stage, classes = imported(tmp_path / "rsepm.pth"), tuple(map(str, range(20)))
    found = resolve(stage.recipe.call)(importing(stage.recipe, stage.settings, classes, ()))
    state = found.state_dict()
    assert len(state) == len(checkpoint) == 374 and found.renamed(state) is state
    assert sorted(value.flatten()[0].item() for value in state.values()) == list(range(374))
    assert (state["backbone.layer3.5.bn2.running_var"] == checkpoint["model.layer3.5.bn2.running_var"]).all()
    assert (state["decoder.merge.4.weight"] == checkpoint["decoder.classifier.4.weight"]).all()
    other = importing(stage.recipe, stage.settings, classes[:6], ())
    (sentence,) = resolve(stage.recipe.check)(other)
    assert "of 6 classes" in sentence and "classifier.weight [20, 2048, 1, 1] for [6, 2048, 1, 1]" in sentence


def test_rates_and_averages_are_those_of_the_public_code() -> None:
    data = golden("schedules")
    rates, steps = data["rsepm_poly_lr"], int(data["max_iterations"])
    factors = torch.tensor([poly(steps)(step) for step in range(steps)])
    torch.testing.assert_close(factors[:, None] * rates[0], rates[:steps], rtol=1e-5, atol=0)
    decays = [ramped(int(update), 0.9999, 2000) for update in data["ema_updates"]]
    np.testing.assert_allclose(decays, data["ema_decay"], rtol=1e-5)
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    average = AveragedCopy(network, float(data["ema_trace_decay"]), 2000)
    for update, expected in enumerate(data["ema_trace"].tolist(), start=1):
        nn.init.constant_(network.weight, update - 1)
        average.update(network, update)
        assert average.network.weight.item() == pytest.approx(expected, rel=1e-5)


def test_the_average_of_the_weights_is_part_of_the_objective_and_delivered() -> None:
    network = nn.Linear(1, 1, bias=False)
    plain: Any = Training(network, nn.Sequential(network), lambda *_: {}, torch.optim.SGD(network.parameters()), poly(2), 1, 2)
    training = averaged(plain, 0.5, 0.0)
    nn.init.zeros_(network.weight)
    training.objective.average.network.weight.fill_(1)  # type: ignore[union-attr, operator]
    assert training.after_step and training.finish and averaged(plain, 0.0, 9.0) is plain
    training.after_step(0)
    training.finish()
    assert network.weight.item() == 0.5 and any("average" in name for name in training.objective.state_dict())


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=3))
def test_targets_hold_what_the_image_shows_and_void_around_it(seed: int, shown: list[list[bool]]) -> None:
    labels, valid = torch.tensor(shown).float(), torch.tensor([8, 0, 24, 28]).expand(len(shown), 4)
    taps, scores, images = a_pass(seed, labels)
    recursion, target = targets(taps, scores, images, labels, valid, (8, 8), MAKING)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 0:7] = True
    assert ((recursion >= 0) & (recursion <= 1 + 1e-5)).all() and not recursion[:, :, ~inside].any()
    assert (target[:, ~inside] == VOID).all()
    for own, found in zip(labels, target, strict=True):
        assert {*found.unique().tolist()} <= {0, VOID, *(own.nonzero().flatten() + 1).tolist()}
    literal = targets(taps, scores, images, labels, valid, (8, 8), Making(layers=(2, 1), stride=8, void_padding=False))[1]
    assert torch.equal(literal[:, inside], target[:, inside]) and not literal[:, ~inside].any()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_an_image_s_targets_do_not_depend_on_the_other_images(seed: int) -> None:
    labels, valid = torch.tensor([[1.0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]), torch.tensor([0, 0, SIDE, SIDE]).expand(3, 4)
    taps, scores, images = a_pass(seed, labels)
    every = targets(taps, scores, images, labels, valid, (8, 8), MAKING)
    for place in range(3):
        only = slice(place, place + 1)
        alone = targets([tap[only] for tap in taps], scores[only], images[only], labels[only], valid[only], (8, 8), MAKING)
        close(alone[0][0], every[0][place], 1e-5)
        assert (alone[1][0] == every[1][place]).float().mean() > 0.95


def test_edge_predict_relabels_the_target_inside_the_image() -> None:
    labels, valid = torch.tensor([[1.0, 1.0]]), torch.tensor([[8, 0, 24, 28]])
    taps, scores, images = a_pass(5, labels)
    plain, relabelled = (replace(MAKING, edge_predict=switch) for switch in (False, True))
    (recursion, target), (_, found) = (targets(taps, scores, images, labels, valid, (16, 16), own) for own in (plain, relabelled))
    expected = predicted(recursion, target, windows=in_cells(valid, (SIDE, SIDE), (16, 16)))
    assert torch.equal(found, expected) and not torch.equal(found, target) and (found[:, :4] == VOID).all()


def problems(**values: object) -> list[str]:
    settings = {"losses": ["cls"], "epochs": 30, "seg_begin": 5, "rec_begin": 5, "ema": 0.0, "training.ema": 0.0} | values
    return recurseed.problems(SimpleNamespace(settings=Settings(settings)))  # type: ignore[arg-type]


def test_losses_without_the_classifier_s_are_refused() -> None:
    for losses, refused in ((["cls"], False), (["cls", "rec"], False), (["seg", "rec"], True)):
        assert bool(problems(losses=losses)) == refused


def test_a_loss_that_would_never_begin_is_refused() -> None:
    every = ["cls", "seg", "rec"]
    assert not problems(losses=every, epochs=6) and not problems(losses=["cls"], epochs=5)
    assert not problems(losses=["cls", "rec"], epochs=5, rec_begin=0)
    first, second = problems(losses=every, epochs=5)
    assert first.startswith("recurseed.seg_begin=5 must be below recurseed.epochs=5, because the loss seg would never begin")
    assert second.startswith("recurseed.rec_begin=5 must be below recurseed.epochs=5")


def test_two_averages_of_the_weights_are_refused_because_only_one_could_be_delivered() -> None:
    assert not problems(ema=0.99) and not problems(**{"training.ema": 0.999})
    (told,) = problems(ema=0.99, **{"training.ema": 0.999})
    assert told == "recurseed.ema=0.99 and training.ema=0.999 are two averages; set one to 0"


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 31), st.integers(0, 31), st.integers(1, 32), st.integers(1, 32))
def test_every_rectangle_has_cells_and_none_lies_outside(h: int, w: int, top: int, left: int, high: int, wide: int) -> None:
    pixels = torch.tensor([[top, left, min(32, top + high), min(32, left + wide)]])
    (y0, x0, y1, x1) = in_cells(pixels, (32, 32), (h, w))[0].tolist()
    assert 0 <= y0 < y1 <= h and 0 <= x0 < x1 <= w
    assert in_cells(torch.tensor([[0, 0, 32, 32]]), (32, 32), (h, w)).tolist() == [[0, 0, h, w]]


def test_class_logits_are_the_mean_over_the_image_in_its_crop() -> None:
    scores = torch.randn(2, 3, 4, 4)
    found = pooled(scores, torch.tensor([[0, 0, 32, 32], [8, 16, 24, 32]]), (32, 32))
    close(found[0], scores[0].mean(dim=(1, 2)), 1e-6)
    close(found[1], scores[1, :, 1:3, 2:4].mean(dim=(1, 2)), 1e-6)


@pytest.mark.parametrize("over", ["all", "present"])
def test_a_cam_that_is_its_own_target_costs_nothing_and_absent_classes_never_do(over: str) -> None:
    scores, labels = torch.randn(2, 3, 4, 4), torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    own = normalised_cams(scores, labels)
    assert recursion_loss(scores, own, labels, "max", over) == 0
    elsewhere = own + torch.tensor([0.0, 1, 1])[:, None, None]
    assert recursion_loss(scores, elsewhere, labels, "max", over) == 0
    expected = own[0, 0].mean() / (6 if over == "all" else 1)
    close(recursion_loss(scores, torch.zeros_like(own), labels, "max", over), expected, 1e-6)


def test_the_maximum_has_a_gradient_unless_it_is_detached() -> None:
    labels = torch.ones(1, 1)
    for normalisation, sign in (("max", 0), ("max-detached", 1), ("sigmoid", 1)):
        scores = torch.tensor([[[[2.0, 1.0]]]], requires_grad=True)
        recursion_loss(scores, torch.zeros(1, 1, 1, 2), labels, normalisation).backward()
        at_peak = scores.grad[0, 0, 0, 0].item()  # type: ignore[index]
        assert (at_peak > 0) == bool(sign), normalisation


@pytest.mark.parametrize("labels", [[[1, 0, 0, 1], [0, 1, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
def test_if_no_pixel_passes_certain_filter_all_losses_and_gradients_are_finite(labels: list[list[int]]) -> None:
    network = a_network()
    nothing = Making(layers=(5,), foreground=1.0, background=0.0)
    objective = RecurSeedObjective(network, {"seg": 0, "rec": 0}, nothing, "valid", ("max", "all"))
    losses, outputs = objective(a_batch(labels), 0)
    assert (outputs["target"] == VOID).all() and losses["segmentation"] == 0
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(own.grad).all() for own in network.parameters() if own.grad is not None)
    assert torch.isfinite(torch.stack([*losses.values()])).all()


def test_the_views_of_maps_are_resized_as_the_code_resizes_them(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (37, 55, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    (stage,) = (one for one in experiment(Request("recurseed+none", "folder:x")).stages if one.recipe.writes == "outputs")
    network, seen = a_network().eval(), list[torch.Tensor]()
    both = network.both
    network.both = lambda images: seen.append(images) or both(images)  # type: ignore[method-assign, func-returns-value]
    settings = settings_of({**stage.settings, "scales": [1.0, 0.5, 1.5], "scg.layers": [5]})
    context = Context(settings, ("a",) * CLASSES, (), (), torch.device("cpu"), {"network": network})
    made = recurseed_maps.outputs(context)(Item("a", tmp_path / "a.png", (0, 2)))
    assert made["decoder"].shape == (2, 10, 14)
    whole = torch.from_numpy(normalise(rgb))[None]
    for images, size in zip(seen, [(37, 55), (18, 27), (55, 82)], strict=True):
        expected = nn.functional.interpolate(whole, size=size, mode="bilinear", align_corners=False)
        close(images, torch.cat([expected, expected.flip(-1)]), 1e-5)


def test_losses_begin_at_their_steps_and_outputs_are_those_of_the_contract() -> None:
    objective = RecurSeedObjective(a_network(), {"seg": 3, "rec": 5}, Making(stride=16), "all", ("max", "all"))
    batch = a_batch([[1, 0, 0, 1], [0, 1, 0, 0]])
    found = {step: objective(batch, step) for step in (0, 2, 3, 5)}
    assert [*found[0][0]] == [*found[2][0]] == ["classification"] and found[2][1].keys() == {"scores", "decoded"}
    assert [*found[3][0]] == ["classification", "segmentation"]
    losses, outputs = found[5]
    assert [*losses] == ["classification", "segmentation", "recursion"]
    assert outputs["scores"].shape == (2, 4, 2, 2) and outputs["decoded"].shape == (2, 5, 8, 8)
    assert outputs["recursion"].shape == (2, 4, 8, 8) and outputs["target"].shape == (2, 8, 8)
    assert outputs["target"].dtype == torch.int64 and not outputs["recursion"].requires_grad


def test_one_pass_gives_what_two_would() -> None:
    network, images = a_network().eval(), torch.randn(2, 3, 33, 50)
    scores, decoded, taps = network.both(images)
    close(scores.mean(dim=(2, 3)), network(images), 1e-5)
    assert torch.equal(decoded, network.decode(images)) and torch.equal(taps[-1], network.features(images))


@pytest.mark.parametrize(
    "name", ["small", "mobilenetv2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "efficientnet_lite0"))]
)
def test_on_every_kind_of_backbone_it_trains_and_computes_the_same_when_made_quick(name: str) -> None:
    torch.manual_seed(0)
    backbone = backbones.build(resolve(entries("backbone")[name]), stride=16, frozen_statistics=False)
    inputs = backbone.channels[LOW], backbone.channels[-1]
    network = RecurSeed(backbone, CLASSES, Decoder(inputs, CLASSES + 1, (1, 2), low=(8, 1), width=8))
    objective = RecurSeedObjective(network, {"seg": 0, "rec": 0}, Making(), "valid", ("max", "all"))
    losses, _ = objective(a_batch([[1, 0, 0, 1], [0, 1, 0, 0]], [4, 0, 30, 32]), 0)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(own.grad is not None and torch.isfinite(own.grad).all() for own in network.parameters())
    images = torch.randn(1, 3, 40, 50)
    with torch.no_grad():
        scores, decoded, _ = network.eval().both(images)
        quick = for_extraction(network, "float32", torch.device("cpu"))
        torch.testing.assert_close(quick.both(images)[:2], (scores, decoded), rtol=1e-3, atol=1e-4)


def test_the_decoder_learns_from_its_target_alone() -> None:
    decoded, target = torch.randn(2, 3, 4, 4, requires_grad=True), torch.full((2, 4, 4), VOID)
    target[0, 0, 0] = 1
    loss = cross_entropy(decoded, target)
    close(loss, -decoded[0, :, 0, 0].log_softmax(dim=0)[1], 1e-6)
    (gradient,) = torch.autograd.grad(loss, decoded)
    assert (gradient != 0).any(dim=1).sum() == 1


@pytest.mark.parametrize(("height", "width"), [(30, 60), (2, 3), (200, 40)])
def test_an_example_says_where_in_the_crop_its_image_lies(height: int, width: int) -> None:
    item: Any = SimpleNamespace(rgb=lambda: np.full((height, width, 3), 200, np.uint8), multi_hot=lambda count: np.ones(count))
    for seed in range(5):
        example = PlacedCrop((16, 90), 64, 3)(item, np.random.default_rng(seed))
        top, left, bottom, right = example["valid"].tolist()
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert torch.equal(example["image"][3] == 255, inside) and inside.any()


def test_biases_learn_twice_as_fast_and_do_not_decay_or_are_as_weights_are() -> None:
    network, rates = a_network(), {"lr": 0.1, "head_lr": 1.0, "weight_decay": 0.01}
    doubled, plain = (recurseed.groups(network, Settings({**rates, "biases": kind})) for kind in ("doubled", "as-weights"))
    assert [(own["lr"], own["weight_decay"]) for own in doubled] == [(0.1, 0.01), (0.2, 0.0), (1.0, 0.01), (2.0, 0.0)]
    assert [(own["lr"], own["weight_decay"]) for own in plain] == [(0.1, 0.01), (1.0, 0.01)]
    for found in (doubled, plain):
        assert sum(len(own["params"]) for own in found) == len([*network.parameters()])


def test_without_pamr_the_target_is_scgs_map() -> None:
    labels, valid = torch.tensor([[1.0, 1.0]]), torch.tensor([[0, 0, SIDE, SIDE]])
    taps, scores, images = a_pass(1, labels)
    recursion, _ = targets(taps, scores, images, labels, valid, (8, 8), Making(layers=(2, 1), stride=8, refine=None))
    spread = recurseed_targets.spread(taps, normalised_cams(scores, labels), (SIDE, SIDE), MAKING)
    close(recursion, resize(spread, (8, 8)), 1e-6)
    close(pamr.refined(resize(images, (8, 8)), recursion), targets(taps, scores, images, labels, valid, (8, 8), MAKING)[0], 1e-5)
