"""Initial weights of segmenters by file: the backbone of a whole network is taken, and every result tells what they saw."""

from pathlib import Path

import pytest
import torch
from torch import nn

import backbones
from backbones import resnet
from imagesets.errors import WrongInput
from orchestrator.planning.refusals import refuse_run
from orchestrator.reading.comparison import compare
from orchestrator.reading.groups import Runs
from orchestrator.reading.protocol import protocol
from orchestrator.storage.store import Store
from segmentation.deeplab_v2 import DeepLabV2
from tests.finished_run import finished_run
from tests.planned_run import planned


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The state dict of a whole segmenter on our small network."""
    torch.manual_seed(1)
    backbone = backbones.build(resnet.small, frozen_statistics=False)
    path = tmp_path / "coco.pth"
    torch.save({"state_dict": DeepLabV2(backbone, 81, (1, 2)).state_dict()}, path)
    return path


def told(images: Path, *assignments: str) -> dict[str, object]:
    """What the score of the segmentation tells of initial weights."""
    plan = planned(images, *assignments)
    found = protocol(plan, [next(step for step in plan.steps if step.stage.name == "deeplabv2-predictions-score")])
    return {name: value for name, value in found.items() if "weights" in name and name.startswith("deeplabv2.")}


def test_a_file_of_a_whole_network_gives_its_backbone(weights: Path) -> None:
    expected = {name: value for name, value in torch.load(weights)["state_dict"].items() if name.startswith("backbone.")}
    found = backbones.build(resnet.small, weights=str(weights), frozen_statistics=False)
    assert all(torch.equal(value, expected[f"backbone.{name}"]) for name, value in found.state_dict().items())
    assert isinstance(found, nn.Module) and len(expected) == len(found.state_dict())


def test_the_protocol_tells_what_initial_weights_saw(image_set: Path, weights: Path) -> None:
    assert told(image_set) == {"deeplabv2.weights": "none", "deeplabv2.weights_saw": "none"}
    assert told(image_set, "deeplabv2.weights=imagenet")["deeplabv2.weights_saw"] == "labels"
    file = f"deeplabv2.weights={weights}"
    assert told(image_set, file)["deeplabv2.weights_saw"] == "unknown"
    found = told(image_set, file, "deeplabv2.weights_saw=masks")
    assert found["deeplabv2.weights_saw"] == "masks" and str(found["deeplabv2.weights"]).startswith("coco.pth (sha256 ")


def test_what_weights_saw_is_part_of_no_key(image_set: Path, weights: Path) -> None:
    file = f"deeplabv2.weights={weights}"
    plain, with_masks = planned(image_set, file), planned(image_set, file, "deeplabv2.weights_saw=masks")
    assert [step.key for step in plain.steps] == [step.key for step in with_masks.steps]


def test_telling_something_else_of_weights_that_are_no_file_is_refused(image_set: Path, weights: Path) -> None:
    with pytest.raises(
        WrongInput, match=r"weights_saw=masks tells of a file, and deeplabv2.weights=imagenet is none; it saw lab"
    ):
        refuse_run(planned(image_set, "deeplabv2.weights=imagenet", "deeplabv2.weights_saw=masks"))
    refuse_run(planned(image_set, "deeplabv2.weights=imagenet", "deeplabv2.weights_saw=labels"))
    refuse_run(planned(image_set, f"deeplabv2.weights={weights}", "deeplabv2.weights_saw=masks"))


def test_a_comparison_warns_where_initial_weights_saw_different_things(image_set: Path, weights: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    finished_run(store, image_set, "cam+irn")
    finished_run(store, image_set, "cam+irn", assignments=(f"deeplabv2.weights={weights}", "deeplabv2.weights_saw=masks"))
    runs = Runs(store)
    groups = [runs.group(name) for name in sorted(path.name for path in (store / "runs").iterdir())]
    warned = [warning for warning in compare(groups, Store(store)).warnings if "weights_saw" in warning]
    assert (
        len(warned) == 1 and "seg on val differ in weights_saw" in warned[0] and ": masks" in warned[0] and ": none" in warned[0]
    )


@pytest.mark.parametrize("segmenter", ["deeplabv3plus", "upernet"])
def test_a_batch_norm_over_one_cell_needs_two_images_in_every_share(image_set: Path, segmenter: str) -> None:
    asked = {"method": "supervised", "segmenter": f"{segmenter}-small"}
    with pytest.raises(
        WrongInput,
        match=f"{segmenter}.batch=2 leaves 1 to each part of a batch, which needs 2 images; it takes {segmenter}.batch=4",
    ):
        refuse_run(planned(image_set, f"{segmenter}.batch=2", "training.workers=2", **asked))
    refuse_run(planned(image_set, f"{segmenter}.batch=2", **asked))  # the number of workers follows


def test_a_drop_path_is_refused_on_a_backbone_without_it(image_set: Path) -> None:
    asked = {"method": "supervised", "segmenter": "upernet-small"}
    with pytest.raises(WrongInput, match=r"upernet.drop_path=0.3 needs drop-path, which upernet.backbone=small does not provide"):
        refuse_run(planned(image_set, "upernet.batch=4", "upernet.drop_path=0.3", **asked))
    refuse_run(planned(image_set, "upernet.batch=4", "upernet.drop_path=0.3", "upernet.backbone=swin_t", **asked))
