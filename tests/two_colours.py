"""Images and contexts for the tests of methods: class 0 is a red square, class 1 a blue one, on grey noise."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backbones import resnet
from imagesets.item import Item
from training.loop import Run, train
from training.stage import Context, Settings, Training

torch.set_num_threads(1)  # tests run beside one another; threads that wait for each other make them slow

CLASSES = ("red", "blue")
COLOURS = ((230, 30, 30), (30, 30, 230))
SIZE = (48, 64)
SHARED = {"backbone.name": resnet.small, "backbone.weights": "none"}
LOOP = {  # of every training
    "training.threads": 1,
    "training.precision": "float32",
    "training.loaders": 0,
    "training.checkpoint_seconds": 0,
    "training.ema": 0.0,
    "training.graphs": False,
}
TRAINING = {  # of a classifier on these images; each method's test adds settings of its own
    "batch": 8,
    "optimiser": "adamw",
    "momentum": 1e-4,
    "weight_decay": 1e-4,
    "long_side": [48, 64],
    "crop": 64,
    "frozen": "stem",
    **LOOP,
}


def write_items(folder: Path, labels: list[tuple[int, ...]], size: tuple[int, int] = SIZE) -> list[Item]:
    """One image per tuple of labels, each class in its own third of the image."""
    rng = np.random.default_rng(0)
    items = []
    for index, own in enumerate(labels):
        pixels = rng.integers(90, 160, (*size, 3), dtype=np.uint8)
        for label in own:
            top, left = rng.integers(4, 16), (4 if label == 0 else 36) + rng.integers(0, 8)
            pixels[top : top + 20, left : left + 20] = COLOURS[label]
        path = folder / f"{index}.png"
        Image.fromarray(pixels).save(path)
        items.append(Item(f"image{index}", path, own))
    return items


def truth(item: Item) -> np.ndarray:
    """The label map uint8 [48,64] of an image."""
    label = np.zeros(SIZE, np.uint8)
    for number, colour in enumerate(COLOURS, start=1):
        label[(item.rgb() == colour).all(axis=-1)] = number
    return label


def context(settings: dict, items: list[Item], **inputs: object) -> Context:
    """The context of a stage; torch's generator is seeded, as the engine does before it calls a training stage."""
    torch.manual_seed(7)
    return Context(Settings(SHARED | settings), CLASSES, items, (7, "test"), torch.device("cpu"), inputs)


def learnt(training: Training, where: Context, folder: Path) -> list[dict[str, float]]:
    """The losses of each epoch, when a training on the images of its context has run to its end."""
    return train(training, where.items, Run(("test",), folder, where.settings.training, torch.device("cpu")))
