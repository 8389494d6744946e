"""Our stages as the engine runs them, on drawn images and drawn weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import backbones
from benchmarks import crf_labels
from imagesets.item import Item
from imagesets.transforms import normalise
from orchestrator.engine.context import context, settings_of
from orchestrator.engine.job import Input, Job
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.recipes import load_all
from orchestrator.planning.references import resolve
from orchestrator.planning.stage import Stage
from orchestrator.storage.result import Attempt, Result
from training.randomness import seed_torch
from training.stage import Context, Training

CLASSES = tuple(f"class {number}" for number in range(20))
RATES = (
    *("cam.lr", "cam.head_lr", "amn.lr", "amn.head_lr", "irn.lr", "irn.displacement_lr", "deeplabv2.lr"),
    *("affinitynet.lr", "mctformer.lr"),
)
EXPRESSIONS = {"affinitynet": "cam+affinitynet", "mctformer": "mctformer+none"}  # of components that the usual run has not
# rates of 0 leave the weights as they are, so every round begins with equal ones; an update costs the same. Dropout would make
# results differ; so would void pixels, which half batches weigh otherwise. The CRF of predictions is a row of its own
EQUAL = ("amn.dropout=0", "deeplabv2.scales=[1.0]", "deeplabv2.crf=none", "mctformer.drop_path=0", "mctformer.weights=none")
FIXED = (*(f"{name}=0" for name in RATES), *EQUAL, "training.workers=1")


@dataclass(frozen=True)
class Bench:
    """A run of `lpcam+amn` with DeepLabV2 whose stages are timed; `assignments` are settings as on the command line.

    A training has at most `most` images a step (0: as published).
    """

    folder: Path
    size: tuple[int, int]
    most: int
    assignments: tuple[str, ...] = ()

    def stage(self, name: str, precision: str = "float32") -> Stage:
        """A stage of the run."""
        chosen = f"training.precision={precision}", f"extraction.precision={precision}"
        weights = [f"backbone.weights={self._weights('resnet50')}", f"deeplabv2.weights={self._weights('resnet101')}"]
        given = (*weights, *FIXED, *chosen, *self.assignments)
        expression = EXPRESSIONS.get(name.partition("-")[0], "lpcam+amn")
        request = Request(expression, "folder:drawn", "deeplabv2-resnet101", assignments=given)
        found = _stages(request)[name]
        if self.most and found.settings.get("batch", 0) > self.most:
            found = replace(found, settings={**found.settings, "batch": self.most})
        return found

    def example(self) -> tuple[Item, np.ndarray]:
        """A drawn photograph of two classes, and maps [2,H,W] of these."""
        return _drawn(self.folder, self.size)

    def label(self) -> np.ndarray:
        """A label map uint8 [H,W] of the example: eight stripes of background and of its two classes."""
        first, second = (key + 1 for key in self.example()[0].labels)
        height, width = self.size
        stripes = np.array([0, first, 0, second] * 2, np.uint8)
        return np.tile(stripes[np.arange(width) * len(stripes) // width], (height, 1))

    def items(self, count: int) -> list[Item]:
        """The example under several ids."""
        return [replace(self.example()[0], id=f"image{number}") for number in range(count)]

    def context(self, name: str, precision: str, records: Mapping[str, Any]) -> Context:
        """What the engine gives to a stage: the networks that it reads as it loads them, and the given `records` by word."""
        stage = self.stage(name, precision)
        job = Job(
            name=name,
            attempt=Attempt(self.folder / name),
            recipe=stage.recipe,
            settings=dict(stage.settings),
            random_seed=0,
            purpose=stage.purpose,
            add_ons=(),
            classes=CLASSES,
            items=self.items(stage.settings.get("batch", 1)),  # type: ignore[arg-type]  # a stage reads any sequence
            inputs={word: self._network(source) for word, source in stage.inputs.items() if source.recipe.network},
        )
        made = context(job, "cpu")
        return replace(made, inputs={**made.inputs, **records})

    def per_image(self, name: str, precision: str, **records: Any) -> Callable[[Item], dict[str, np.ndarray]]:
        """A stage's function of one image."""
        return resolve(self.stage(name, precision).recipe.call)(self.context(name, precision, records))

    def training(self, name: str, precision: str, **records: Any) -> Training:
        """The training of a stage; that of one name has equal weights each time."""
        made = self.context(name, precision, records)
        seed_torch(name)
        return resolve(self.stage(name, precision).recipe.call)(made)

    def state(self, name: str) -> dict[str, torch.Tensor]:
        """The weights of the network that a training stage delivers, for the per-image stages that read it."""
        return torch.load(self._network(self.stage(name)).result.file("network.pt"), weights_only=True)

    def _network(self, source: Stage) -> Input:
        """A training stage's result with drawn weights."""
        made = Input(Result(self.folder / source.name), source.recipe.network, dict(source.settings))
        path = made.result.folder / "network.pt"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            seed_torch("network", source.name)
            module = resolve(made.network)(settings_of(made.settings), CLASSES)
            self._calibrate(module.backbone)
            torch.save(module.state_dict(), path)
        return made

    def _weights(self, architecture: str) -> Path:
        """A file of initial weights of a backbone."""
        path = self.folder / f"{architecture}.pt"
        if not path.exists():
            seed_torch(architecture)
            backbone = backbones.build(resolve(load_all()["resnet"].table[architecture]), frozen_statistics=True)
            self._calibrate(backbone)
            torch.save(backbone.state_dict(), path)
        return path

    @torch.no_grad()
    def _calibrate(self, backbone: nn.Module) -> None:
        """Give the batch norms the statistics of the example, and the last one of each block a small scale, as training does.

        With a scale of 1, a residual network of drawn weights enlarges rounding errors from block to block.
        """
        norms = {name: module for name, module in backbone.named_modules() if isinstance(module, nn.BatchNorm2d)}
        for name, norm in norms.items():
            norm.train()
            norm.momentum = 1.0  # the statistics of the last batch
            if name.endswith("bn3"):
                nn.init.constant_(norm.weight, 0.2)
        backbone(torch.from_numpy(normalise(self.example()[0].rgb()))[None])
        for norm in norms.values():
            norm.eval()


@cache
def _stages(request: Request) -> dict[str, Stage]:
    return {stage.name: stage for stage in experiment(request).stages}


@cache
def _drawn(folder: Path, size: tuple[int, int]) -> tuple[Item, np.ndarray]:
    rgb, maps, keys = crf_labels.example(1, size)
    path = folder / "image.jpg"
    Image.fromarray(rgb).save(path, quality=95)
    return Item("image", path, tuple(int(key) for key in keys)), maps.numpy()
