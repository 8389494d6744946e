"""Every training: which rate, decay and schedule each parameter has, and that its samples reach loading processes."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import backbones
from methods import amn, cam, recam
from refiners import irn
from segmentation import deeplab_v2
from tests import test_amn, test_irn_stages, two_colours
from tests.test_segmentation_deeplab_v2 import SMALL
from tests.two_colours import CLASSES, SHARED, context, write_items
from training.stage import Context, Settings, Training
from training.transfer import to_device

LR, HEAD, DECAY, MOMENTUM = 0.003, 0.02, 0.0007, 0.8
STEPS = 6  # 8 images, batches of 4, 3 epochs
OWN = {"lr": LR, "head_lr": HEAD, "weight_decay": DECAY, "momentum": MOMENTUM, "batch": 4, "epochs": 3}
CLASSIFIER = two_colours.TRAINING | OWN | {"optimiser": "sgd", "loss": "bce", "lambda": 1.0}
Rate = tuple[float, float] | None  # learning rate and weight decay; None where a parameter does not train


def weights_file(folder: Path) -> str:
    torch.save(backbones.build(SHARED["backbone.name"], frozen_statistics=False).state_dict(), folder / "weights.pt")
    return str(folder / "weights.pt")


def of_cam(folder: Path) -> Training:
    return cam.training(context(CLASSIFIER | {"backbone.weights": weights_file(folder)}, write_items(folder, [(0,)] * 8)))


def of_recam(folder: Path) -> Training:
    converged = cam.network(Settings(SHARED), CLASSES)
    settings = CLASSIFIER | {"backbone.weights": weights_file(folder)}
    return recam.training(context(settings, write_items(folder, [(0,)] * 8), network=converged))


def labelled(folder: Path, settings: dict) -> Context:
    items = write_items(folder, [(0,)] * 8)
    labels = {item.id: {"label": np.zeros((48, 64), np.uint8)} for item in items}
    return context(settings, items, labels=labels, masks=labels, network=cam.network(Settings(SHARED), CLASSES))


def of_amn(folder: Path) -> Training:
    return amn.training(labelled(folder, test_amn.TRAINING | OWN))


def of_irn(folder: Path) -> Training:
    return irn.training(labelled(folder, test_irn_stages.TRAINING | OWN | {"displacement_lr": HEAD}))


def of_deeplab(folder: Path) -> Training:
    own = {"lr": LR, "weight_decay": DECAY, "momentum": MOMENTUM, "iterations": 40, "schedule": "staircase"}
    return deeplab_v2.training(labelled(folder, SMALL | own))


def of_deeplab_with_poly(folder: Path) -> Training:
    return deeplab_v2.training(labelled(folder, SMALL | {"iterations": STEPS, "schedule": "poly"}))


def rate_in_cam(name: str) -> Rate:
    if name.startswith(("backbone.conv1.", "backbone.bn1.")):
        return None  # the frozen stem
    return {"backbone": LR, "classifier": HEAD}[name.split(".")[0]], DECAY


def rate_in_recam(name: str) -> Rate:
    if name.startswith(("backbone.conv1.", "backbone.bn1.")):
        return None
    return {"backbone": LR, "classifier": LR, "reactivation": HEAD}[name.split(".")[0]], DECAY


def rate_in_amn(name: str) -> Rate:
    if name.startswith(("backbone.conv1.", "backbone.bn1.")):
        return None
    return {"backbone": LR, "condition": HEAD, "aspp": HEAD}[name.split(".")[0]], DECAY


def rate_in_irn(name: str) -> Rate:
    if name.startswith("backbone."):
        return None
    return {"fc_edge": LR, "fc_dp": HEAD}[name.split(".")[0].rstrip("1234567")], DECAY


def rate_in_deeplab(name: str) -> Rate:
    if name.startswith("backbone."):
        return LR, DECAY
    return {"weight": (10 * LR, DECAY), "bias": (20 * LR, 0.0)}[name.split(".")[-1]]


def poly(step: int) -> float:
    return (1 - step / STEPS) ** 0.9


def staircase(step: int) -> float:
    return (1 - step // 10 * 10 / 40) ** 0.9


ALL: dict[str, Callable[[Path], Training]] = {
    "cam": of_cam,
    "recam": of_recam,
    "amn": of_amn,
    "irn": of_irn,
    "deeplabv2": of_deeplab,
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cam", rate_in_cam),
        ("recam", rate_in_recam),
        ("amn", rate_in_amn),
        ("irn", rate_in_irn),
        ("deeplabv2", rate_in_deeplab),
    ],
)
def test_every_parameter_has_its_rate_and_decay(tmp_path: Path, name: str, expected: Callable[[str], Rate]) -> None:
    training = ALL[name](tmp_path)
    names = {parameter: name for name, parameter in training.network.named_parameters()}
    found: dict[str, Rate] = dict.fromkeys(names.values())
    for group in training.optimiser.param_groups:
        for parameter in group["params"]:
            assert found[names[parameter]] is None, f"{names[parameter]} is in two groups"
            found[names[parameter]] = group["lr"], group["weight_decay"]
    assert found == {name: expected(name) for name in found}


@pytest.mark.parametrize(
    ("build", "expected", "steps"),
    [
        (of_cam, poly, STEPS),
        (of_recam, poly, STEPS),
        (of_amn, lambda step: 1.0, STEPS),
        (of_irn, poly, STEPS),
        (of_deeplab, staircase, 40),
        (of_deeplab_with_poly, poly, STEPS),
    ],
)
def test_rates_follow_their_schedule(
    tmp_path: Path, build: Callable[[Path], Training], expected: Callable[[int], float], steps: int
) -> None:
    training = build(tmp_path)
    assert (training.steps, training.batch) == (steps, 4)
    assert [training.schedule(step) for step in range(steps)] == pytest.approx([expected(step) for step in range(steps)])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("cam", "SGD"), ("recam", "SGD"), ("amn", "Adam"), ("irn", "SGD"), ("deeplabv2", "SGD")],
)
def test_the_optimiser_is_the_one_its_method_names(tmp_path: Path, name: str, kind: str) -> None:
    optimiser = ALL[name](tmp_path).optimiser
    assert type(optimiser).__name__ == kind
    for group in optimiser.param_groups:
        assert group["betas"] == (0.9, 0.999) if kind == "Adam" else (group["momentum"], group["nesterov"]) == (MOMENTUM, False)


@pytest.mark.parametrize("name", ALL)
def test_a_sample_can_be_sent_to_the_processes_that_load_images(tmp_path: Path, name: str) -> None:
    training, [item] = ALL[name](tmp_path), write_items(tmp_path, [(0,)])
    sent = pickle.loads(pickle.dumps(training.sample))
    here, there = (sample(item, np.random.default_rng(3)) for sample in (training.sample, sent))
    assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)


def test_the_objectives_outputs_are_there_for_add_ons(tmp_path: Path) -> None:
    found = {}
    for name, build in ALL.items():
        folder = tmp_path / name
        folder.mkdir()
        training, [item] = build(folder), write_items(folder, [(0,)])
        examples = [training.sample(item, np.random.default_rng(seed)) for seed in range(2)]
        batch = {name: torch.stack([example[name] for example in examples]) for name in examples[0]}
        losses, outputs = training.objective(to_device(batch, torch.device("cpu")), 0)
        assert all(loss.ndim == 0 for loss in losses.values())
        found[name] = {name: tuple(values.shape) for name, values in outputs.items()}
    grid, classified = (4, 4), {"features": (2, 256, 4, 4), "logits": (2, 2)}
    assert found["cam"] == found["recam"] == classified
    assert found["amn"] == {"logits": (2, 3, *grid)}
    assert found["irn"] == {"boundary": (2, 1, 16, 16), "displacement": (2, 2, 16, 16)}
    assert found["deeplabv2"] == {"logits": (2, 3, 9, 9)}
