"""Tiny image sets with rare but legal images: without labels, very long, of sizes that no stride divides."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from imagesets.palette import save_label_map

SIZES = ((17, 200), (32, 40), (45, 33), (2, 3))  # height and width, in turn; `images check` refuses what is smaller than 2 x 2
SHOWN = ((0,), (), (0, 1), (1,))  # classes, in turn
COLOURS = ((230, 30, 30), (30, 30, 230))
SALIENCY = "Saliency"
COUNTS = {"train": 8, "val": 4}


def write_images(root: Path, classes: Sequence[str], lists: Sequence[str] = ("train", "val"), labels: bool = True) -> Path:
    """An image set in VOC layout: each class shown is a rectangle in its own half; every image has a mask.

    Without `labels` the masks alone tell them. Saliency maps have half the images' sides.
    """
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", SALIENCY):
        (root / folder).mkdir(parents=True)
    lines = []
    for name in lists:
        ids = [f"{name}_{number}" for number in range(COUNTS.get(name, 4))]
        (root / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids) + "\n")
        for number, id in enumerate(ids):
            shown = [own for own in SHOWN[number % len(SHOWN)] if own < len(classes)]
            rgb, mask = _draw(SIZES[number % len(SIZES)], shown, rng)
            Image.fromarray(rgb).save(root / "JPEGImages" / f"{id}.png")
            save_label_map(root / "SegmentationClass" / f"{id}.png", mask)
            salient = np.where(mask[::2, ::2] > 0, np.uint8(230), np.uint8(15))
            Image.fromarray(salient).save(root / SALIENCY / f"{id}.png")
            lines.append(" ".join([id, *(classes[own] for own in shown)]))
    if labels:
        (root / "classes.txt").write_text("\n".join(classes) + "\n")
        (root / "image_labels.txt").write_text("\n".join(lines) + "\n")
    return root


def _draw(size: tuple[int, int], shown: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    height, width = size
    rgb, mask = rng.integers(90, 160, (*size, 3), dtype=np.uint8), np.zeros(size, np.uint8)
    for own in shown:
        left = own * width // 2
        inside = slice(height // 8, height - height // 8), slice(left, left + max(1, width // 3))
        rgb[inside], mask[inside] = COLOURS[own], own + 1
    return rgb, mask
