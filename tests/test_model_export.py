"""An exported model segments a photograph as the run's own network does, at any size, in ONNX's runtime and in TorchScript."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image
from torch import nn

from imagesets.errors import WrongInput
from orchestrator import Segmenter
from orchestrator.afterwards import model_export
from orchestrator.afterwards.model_export import FILES, NO_CRF, NOT_COMPARED, export_model, reader
from orchestrator.reading.runs import FinishedRun, open_run
from segmentation.exporting import Cells, Exported, _scaled
from segmentation.fusion import RULES, Rule
from tests.conftest import Command, write_image_set
from tests.finished_run import UntrainedSegmenter, finished_run

SEGMENTERS = {
    "deeplabv2-small": ("deeplabv2.crop=48",),
    "deeplabv2-small mirrored": ("deeplabv2.test_scales=[1.0, 0.5, 1.5]", "deeplabv2.mirror=true"),
    "deeplabv2-small with CRF": ("deeplabv2.crf=deeplab",),
    "deeplabv2-mobilenetv2": ("deeplabv2.weights=none", "deeplabv2.crf=none"),
    "deeplabv3plus-small": (),
    "pspnet-small": ("pspnet.test_scales=[1.0, 0.75]", "pspnet.fusion=mean_view_softmax"),
    "resnet38d-small": (),
    "upernet-small": ("upernet.test_scales=[1.0, 0.5, 0.75]",),
    "upernet-small fitted": ("upernet.test_fit=[150, 100]", "upernet.test_scales=[1.0, 0.5]", "upernet.mirror=true"),
    "upernet-small aligned": ("upernet.test_fit=[300, 200]", "upernet.fusion=max_softmax"),
    "upernet-small bicubic": ("upernet.test_fit=[300, 200]", "upernet.fusion=mean_logits"),
}


def run_of(root: Path, segmenter: str) -> FinishedRun:
    """A finished run whose segmenter has random weights."""
    images, name = write_image_set(root / "images"), segmenter.partition(" ")[0]
    finished = finished_run(
        root / "store", images, "cam+none", UntrainedSegmenter, segmenter=name, assignments=SEGMENTERS[segmenter]
    )
    return open_run(root / "store", finished[2].name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return run_of(tmp_path_factory.mktemp("export"), "deeplabv2-small")


def photographs() -> list[np.ndarray]:
    """A real photograph at several sizes, and half of it: uint8 [H,W,3]."""
    with cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(file) as picture:
        rgb = picture.convert("RGB")
        return [np.array(rgb.resize(size)) for size in ((160, 190), (97, 130), (201, 84))] + [np.array(rgb)[100:260, 50:350]]


def check(run: FinishedRun, path: Path, form: str, images: list[np.ndarray]) -> None:
    """The file gives the probabilities and labels of the run's segmenter."""
    segmenter, exported = Segmenter(run, "cpu"), reader(path / FILES[form], form)
    assert exported is not None
    for rgb in images:
        label, found = exported(rgb)
        expected = segmenter.probabilities(rgb)
        assert label.dtype == np.uint8 and label.shape == rgb.shape[:2] and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert (label == segmenter.predict(rgb)).mean() > 0.999


@pytest.mark.parametrize("form", FILES)
def test_a_model_file_segments_a_photograph_as_the_run_does(
    command: Command, run: FinishedRun, tmp_path: Path, form: str
) -> None:
    words = ("export", "cam+none", "--store", run.store.root, "--what", "model", "--format", form)
    code, shown, _ = command(*words, "--to", tmp_path / "out")
    assert code == 0 and f"the segmenter of {run.name} as {form}" in shown
    check(run, tmp_path / "out", form, photographs())
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert about["values"]["1"] == "disc" and about["largest_difference"] < 1e-4 and about["size"] is None
    assert about["digest"] == run.result("deeplabv2-segmenter")[1]["digest"]
    assert FILES[form] in (tmp_path / "out" / "README.txt").read_text()
    assert "image-level labels of the list train" in (tmp_path / "out" / "model_card.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("segmenter", [name for name in SEGMENTERS if name != "deeplabv2-small" and "CRF" not in name])
def test_every_segmenter_can_be_exported(tmp_path: Path, segmenter: str, form: str) -> None:
    run = run_of(tmp_path, segmenter)
    export_model(run, tmp_path / "out", form, None)
    check(run, tmp_path / "out", form, photographs())


@pytest.mark.slow
@pytest.mark.parametrize("form", FILES)
def test_a_model_for_one_size_refuses_others(run: FinishedRun, tmp_path: Path, form: str) -> None:
    export_model(run, tmp_path / "out", form, (64, 80))
    rgb = photographs()[0]
    check(run, tmp_path / "out", form, [rgb[:64, :80]])
    exported = reader(tmp_path / "out" / FILES[form], form)
    assert exported is not None
    with pytest.raises(Exception, match=r"images of another size|Got: 65 Expected: 64"):
        exported(rgb[:65, :80])


def test_a_network_that_looks_at_sizes_is_refused_for_all_sizes(
    run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Exported.forward

    def cut(self: Exported, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        label, scores = forward(self, image)
        return label[:, :131], scores[:, :, :131]

    monkeypatch.setattr(Exported, "forward", cut)
    with pytest.raises(
        WrongInput, match=r"at 61x190 pixels the torchscript file differs from the network by inf.*give one size.*--size 512x512"
    ):
        export_model(run, tmp_path / "out", "torchscript", None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_crf_and_a_missing_runtime_are_told(run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_export, "reader", lambda path, form: None)
    assert export_model(run, tmp_path / "out", "torchscript", None) == [NOT_COMPARED]
    monkeypatch.undo()
    with_crf = run_of(tmp_path / "crf", "deeplabv2-small with CRF")
    assert export_model(with_crf, tmp_path / "without", "torchscript", None) == [NO_CRF]
    monkeypatch.setattr(model_export, "find_spec", lambda name: None)
    with pytest.raises(WrongInput, match="needs the package onnx: pip install onnx"):
        export_model(run, tmp_path / "other", "onnx", None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--what", "model", "--format", "voc"), "--format voc is not one of onnx, torchscript"),
        (("--what", "model", "--size", "64"), "--size 64 is not HEIGHTxWIDTH"),
        (("--what", "seg", "--size", "64x64"), "--size 64x64 is for --what model"),
        (("--what", "seg", "--format", "onnx"), "--format onnx is not one of voc, voc-server, coco-rle"),
        (("--what", "modle"), "--what modle is neither pseudo nor seg nor model nor bundle"),
        (("--what", "bundle"), "must end in .zip: a bundle is one file"),
        (("--what", "bundle", "--format", "onnx"), "a bundle has one format"),
    ],
)
def test_wrong_options_are_refused(
    command: Command, run: FinishedRun, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, _, errors = command("export", run.name, "--store", run.store.root, "--to", tmp_path / "out", *words)
    assert code == 2 and sentence in errors and not (tmp_path / "out").exists()


def test_tiny_images_keep_a_pixel_in_an_export() -> None:
    images = torch.rand(1, 3, 4, 300)
    for rule in RULES.values():
        found = _scaled(images, torch.tensor(0.1, dtype=torch.float64), rule.resizing)
        assert found.shape == rule.resizing(images, 0.1).shape == (1, 3, 1, 30)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("factor", [0.37, 1.0, 2.0 / 3, 1.6180339887])
def test_resizing_by_a_factor_that_is_a_tensor_is_that_by_a_number(rule: Rule, factor: float) -> None:
    images = torch.rand(1, 3, 61, 190)
    found = _scaled(images, torch.tensor(factor, dtype=torch.float64), rule.resizing)
    torch.testing.assert_close(found, rule.resizing(images, factor), atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (7, 13), (64, 33)])
def test_means_of_cells_are_those_of_adaptive_pooling(size: tuple[int, int]) -> None:
    features = torch.rand(2, 4, *size)
    for cells in (2, 3, 6):
        torch.testing.assert_close(Cells(cells)(features), nn.AdaptiveAvgPool2d(cells)(features))
