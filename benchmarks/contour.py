"""Scores of one image: contour quality F against the published scan, and what each score costs beside the others.

HFPL's public code makes the contours of every class of the image set over the whole image, and dilates both. Ours takes the
classes that are there, each in its window. Both count the same.

Run from the repository root: python -m benchmarks.contour [a VOC folder]
"""

import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from imagesets.item import read_label_map
from metrics import contour, counts, region, sizes
from training.threads import set_threads

SIZE, CLASSES, REPEATS = (375, 500), 20, 5


def published_scan(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """The counts of `contour.matches` in the plain way: every class, whole images."""
    disk = contour.disk(math.ceil(contour.TOLERANCE * math.hypot(*truth.shape)))
    found = []
    for label in range(1, classes + 1):
        true, predicted = plain_contour(truth == label), plain_contour(prediction == label)
        matched = true & cv2.dilate(predicted, disk), predicted & cv2.dilate(true, disk)
        found.append([plane.sum() for plane in (*matched, true, predicted)])
    return np.array(found)


def plain_contour(mask: np.ndarray) -> np.ndarray:
    """The pixels uint8 [H,W] of a mask that differ from their right, lower or lower right neighbour."""
    right, lower, corner = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    lower[:-1] = mask[:-1] ^ mask[1:]
    corner[:-1, :-1] = mask[:-1, :-1] ^ mask[1:, 1:]
    return (right | lower | corner).astype(np.uint8)


def example(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A mask of `count` ellipses of different classes with void borders, and a prediction: shifted, with holes and specks."""
    truth = np.zeros(SIZE, np.uint8)
    for label in rng.choice(CLASSES, count, replace=False) + 1:
        centre = (int(rng.integers(100, 400)), int(rng.integers(80, 300)))
        axes, angle = tuple(rng.integers(20, 140, 2).tolist()), float(rng.uniform(0, 180))
        cv2.ellipse(truth, centre, axes, angle, 0, 360, int(label), -1)
        cv2.ellipse(truth, centre, axes, angle, 0, 360, 255, 5)
    shifted = np.roll(np.where(truth == 255, 0, truth), (7, -9), (0, 1))
    noise = cv2.resize(rng.random((47, 63), np.float32), SIZE[::-1]) > 0.9
    return truth, np.where(noise, np.roll(shifted, 120, 1), shifted)


def of_voc(folder: Path, images: int = 50) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks of a folder in VOC's layout, each against itself moved by some pixels."""
    masks = [read_label_map(path) for path in sorted((folder / "SegmentationClass").glob("*.png"))[:images]]
    return [(mask, np.roll(np.where(mask == 255, 0, mask), (7, -9), (0, 1))) for mask in masks]


def milliseconds(function: Callable[[np.ndarray, np.ndarray], object], pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """CPU milliseconds for an image, the least of a few passes over all."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        for pair in pairs:
            function(*pair)
        times.append(time.process_time() - started)
    return 1000 * min(times) / len(pairs)


def everything(truth: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
    """All that an evaluation counts of one label map."""
    return counts.of_label_map(truth, prediction, region.confusion(truth, prediction, CLASSES + 1))


def main() -> None:
    """Print milliseconds an image; fails where the counts differ."""
    set_threads(1)
    rng, sets = np.random.default_rng(0), {}
    for number in (1, 2, 6):
        sets[f"{number} classes, {SIZE[0]}x{SIZE[1]}"] = [example(number, rng) for _ in range(20)]
    if sys.argv[1:]:
        sets["masks of VOC"] = of_voc(Path(sys.argv[1]))
    for name, pairs in sets.items():
        assert all(np.array_equal(published_scan(*pair, CLASSES), contour.matches(*pair, CLASSES)) for pair in pairs)
        slow, fast, by_size = (
            milliseconds(partial(score, classes=CLASSES), pairs) for score in (published_scan, contour.matches, sizes.by_size)
        )
        regions = milliseconds(partial(region.confusion, classes=CLASSES + 1), pairs)
        whole = milliseconds(everything, pairs)
        print(
            f"{name}: F as published {slow:.2f} ms, ours {fast:.2f} ms, ratio {slow / fast:.1f}; "
            f"regions alone {regions:.2f} ms, IoU by size {by_size:.2f} ms, all together {whole:.2f} ms"
        )


if __name__ == "__main__":
    main()
