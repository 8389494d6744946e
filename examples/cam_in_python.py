"""CAM from Python, without the orchestrator: draw images, train, extract maps, score them. About a minute on one core.

Run from the repository root: python examples/cam_in_python.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from backbones import resnet
from imagesets import shapes
from imagesets.folder import open_folder
from maps.maps import Maps
from maps.reading import divided_by_maximum
from methods import cam
from metrics import thresholds
from training.loop import Run, train
from training.stage import Context, Settings

DRAWN = {"size": 96, "train_images": 160, "val_images": 1, "drawing_seed": 0}
READ = {"labels": "auto", "masks": ["SegmentationClass"]}
NETWORK = {"backbone.name": resnet.small, "backbone.weights": "none", "frozen": "none", "loss": "bce"}
TRAINING = {"epochs": 12, "batch": 16, "optimiser": "adamw", "lr": 0.001, "head_lr": 0.003, "momentum": 0.0, "weight_decay": 1e-4}
SAMPLES = {"long_side": [88, 128], "crop": 96, "scales": [1.0, 1.5, 2.0]}
HOW = {"precision": "float32", "loaders": 0, "ema": 0.0, "graphs": False}


def main() -> None:
    """Print the losses of the epochs and the best threshold of the seeds."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root, device = Path(folder) / "shapes", torch.device("cpu")
        shapes.generate(root, DRAWN)
        images = open_folder(root, READ)
        items = images.items("train", with_masks=True)

        settings = Settings({**NETWORK, **TRAINING, **SAMPLES})
        context = Context(settings, images.classes, items, purpose=(0, "example"), device=device)
        torch.manual_seed(0)  # for the initial weights
        training = cam.training(context)
        for epoch in train(training, items, Run(context.purpose, Path(folder), Settings(HOW), device)):
            print(" ".join(f"{name} {value:.3g}" for name, value in epoch.items()))

        network = training.network.eval().requires_grad_(False)
        extract = cam.maps(Context(settings, images.classes, items, (), device, {"network": network}))
        grid = np.arange(0.0, 1.0, 0.05)
        confusion = np.zeros((len(grid), len(images.classes) + 1, len(images.classes) + 1), np.int64)
        for item in items:
            maps = Maps.of(extract(item), divided_by_maximum)
            confusion += thresholds.sweep(maps.full().numpy(), maps.keys, item.truth(), grid, len(images.classes))
        best = thresholds.best(thresholds.curve(confusion, grid, "union"))
        print(f"seed mIoU {100 * best['miou']:.1f} at the best threshold {best['threshold']:.2f} (oracle)")


if __name__ == "__main__":
    main()
