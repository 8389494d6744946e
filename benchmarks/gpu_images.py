"""The image set of the GPU benchmark: photographs' sizes, VOC's number of classes, nothing to learn."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from imagesets.image_set import IMAGES, LISTS
from imagesets.labels import LABEL_LIST

CLASSES = 20


def write_images(root: Path, counts: dict[str, int], size: tuple[int, int]) -> Path:
    """A folder in VOC layout with `counts` images for each list, three of four of `size` (height, width), one turned.

    Each image is smooth noise, with a square for each of its one or two classes.
    """
    for folder in (IMAGES, LISTS):
        (root / folder).mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for name, count in counts.items():
        ids = [f"{name}{number:04d}" for number in range(count)]
        (root / LISTS / f"{name}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
        for number, id in enumerate(ids):
            shown = rng.choice(CLASSES, size=1 + number % 2, replace=False)
            rgb = _drawn(size if number % 4 else size[::-1], shown, rng)
            Image.fromarray(rgb).save(root / IMAGES / f"{id}.jpg", quality=90)
            lines.append(" ".join([id, *(f"class{own}" for own in shown)]))
    (root / "classes.txt").write_text("".join(f"class{own}\n" for own in range(CLASSES)), encoding="utf-8")
    (root / LABEL_LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def _drawn(size: tuple[int, int], shown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = size
    coarse = rng.integers(60, 200, (max(height // 32, 2), max(width // 32, 2), 3)).astype(np.float32)
    rgb = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    side = min(size) * 2 // 5
    for own in shown:
        y, x = rng.integers(0, height - side), rng.integers(0, width - side)
        rgb[y : y + side, x : x + side] = (12 * own, 255 - 12 * own, 37 * own % 255)
    return np.clip(rgb, 0, 255).astype(np.uint8)
