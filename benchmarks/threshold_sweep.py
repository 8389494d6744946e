"""One pass over the pixels for all thresholds, against one pass per threshold: same matrices, how much faster?

Run from the repository root: python -m benchmarks.threshold_sweep
"""

from functools import partial

import numpy as np

from benchmarks.clock import median_time
from metrics import region, thresholds

SIZE = (375, 500)  # a typical VOC image
CLASSES = 20
GRID = np.arange(60) / 100
REPEATS = 7


def one_pass_per_threshold(maps: np.ndarray, keys: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The plain procedure: stack the threshold on the maps, argmax, count; for each threshold anew."""
    names = np.concatenate([[0], keys + 1]).astype(np.uint8)
    matrices = []
    for threshold in GRID:
        stack = np.pad(maps, ((1, 0), (0, 0), (0, 0)), constant_values=threshold)
        matrices.append(region.confusion(truth, names[stack.argmax(0)], CLASSES + 1))
    return np.stack(matrices)


def example(count: int, rng: np.random.Generator, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth maps in 0..1 of `count` classes, and a mask with a void border."""
    keys = np.sort(rng.choice(CLASSES, count, replace=False))
    coarse = rng.random((count, 24, 32), np.float32)
    rows, columns = np.arange(size[0]) * 24 // size[0], np.arange(size[1]) * 32 // size[1]
    maps = coarse[:, rows][:, :, columns] * rng.uniform(0.9, 1, (count, *size)).astype(np.float32)
    truth = np.concatenate([[0], keys + 1, [255]]).astype(np.uint8)[rng.integers(0, count + 2, size)]
    return maps, keys, truth


def main() -> None:
    """Print one line per number of classes; fails where the matrices differ."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 3):
        given = example(count, rng)
        expected, slow = median_time(partial(one_pass_per_threshold, *given), REPEATS)
        found, fast = median_time(partial(thresholds.sweep, *given, GRID, CLASSES), REPEATS)
        assert np.array_equal(expected, found)
        print(
            f"{count} classes, {len(GRID)} thresholds, {SIZE[0]}x{SIZE[1]}: one pass each {slow * 1e3:6.1f} ms, "
            f"one pass for all {fast * 1e3:5.1f} ms, ratio {slow / fast:.1f}"
        )


if __name__ == "__main__":
    main()
