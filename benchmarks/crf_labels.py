"""Confident labels per core and over processes: one inference for both label maps against two whole CRFs as published.

Run from the repository root: python -m benchmarks.crf_labels   (half a minute)
"""

import time
from contextlib import ExitStack
from functools import cache
from multiprocessing import get_context

import cv2
import numpy as np
import torch
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels

from orchestrator.planning.recipes import load_all
from refiners import crf

SIZE, IMAGES = (375, 500), 12
PARAMETERS = crf.Parameters(**load_all()["crf"].table["irn-labels"])
FOREGROUND, BACKGROUND = 0.30, 0.05  # IRN's thresholds
Example = tuple[np.ndarray, torch.Tensor, np.ndarray]


def example(seed: int, size: tuple[int, int] = SIZE) -> Example:
    """A shaded image of overlapping ellipses with slight noise, and the maps of one or two of them (2 or 3 labels)."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = 128 + 30 * cv2.resize(rng.normal(size=(6, 8, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    maps = []
    for _ in range(12):
        inside = np.zeros(size, np.uint8)
        centre, axes = rng.integers(0, (width, height)).tolist(), rng.integers(30, 110, 2).tolist()
        cv2.ellipse(inside, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        image[inside > 0] = 0.4 * image[inside > 0] + 0.6 * rng.uniform(0, 255, 3)
        blurred = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 20)
        maps.append(blurred / (blurred.max() + 1e-5))
    image = image + rng.normal(0, 3, image.shape)
    keys = np.sort(rng.choice(20, 1 + seed % 2, replace=False))
    return np.clip(image, 0, 255).astype(np.uint8), torch.from_numpy(np.stack(maps[-len(keys) :])), keys


def whole_crf(rgb: np.ndarray, unary: np.ndarray, own: crf.Parameters) -> np.ndarray:
    """pydensecrf's probabilities float32 [L,H,W] of an image uint8 [H,W,3] and unary energies [L,H*W]."""
    model = DenseCRF2D(rgb.shape[1], rgb.shape[0], len(unary))
    model.setUnaryEnergy(np.ascontiguousarray(unary))
    model.addPairwiseGaussian(sxy=own.gaussian_sxy, compat=own.gaussian_weight)
    model.addPairwiseBilateral(sxy=own.bilateral_sxy, srgb=own.bilateral_srgb, rgbim=rgb, compat=own.bilateral_weight)
    return np.array(model.inference(own.iterations), np.float32).reshape(len(unary), *rgb.shape[:2])


def published(rgb: np.ndarray, maps: torch.Tensor, keys: np.ndarray) -> np.ndarray:
    """The public code's procedure: one whole CRF per threshold."""
    refined = []
    for threshold in (FOREGROUND, BACKGROUND):
        stack = np.pad(maps.numpy(), ((1, 0), (0, 0), (0, 0)), constant_values=threshold)
        unary = unary_from_labels(stack.argmax(axis=0), len(stack), PARAMETERS.certainty, zero_unsure=False)
        refined.append(np.concatenate([[0], keys + 1])[whole_crf(rgb, unary, PARAMETERS).argmax(axis=0)])
    trusted, possible = refined
    label = trusted.copy()
    label[trusted == 0] = 255
    label[(trusted == 0) & (possible == 0)] = 0
    return label.astype(np.uint8)


def ours(rgb: np.ndarray, maps: torch.Tensor, keys: np.ndarray) -> np.ndarray:
    """One inference over twice the labels."""
    return crf.confident(rgb, maps, keys, FOREGROUND, BACKGROUND, PARAMETERS)


@cache
def prepared(seeds: tuple[int, ...]) -> list[Example]:
    """The examples of some seeds, made once per process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    return [example(seed) for seed in seeds]


def label_all(seeds: tuple[int, ...]) -> float:
    """Make the labels of the examples `seeds`, for a worker process; its CPU seconds."""
    examples = prepared(seeds)
    start = time.process_time()
    for given in examples:
        ours(*given)
    return time.process_time() - start


def shared_out(processes: int) -> tuple[float, float]:
    """Wall seconds for all examples in `processes` processes that are up and have them, and CPU seconds over all processes."""
    shares = [tuple(range(start, IMAGES, processes)) for start in range(processes)]
    with ExitStack() as stack:
        # a pool of one for each share, so that no process does two
        pools = [stack.enter_context(get_context("spawn").Pool(1)) for _ in shares]
        for pool, share in zip(pools, shares, strict=True):
            pool.apply(label_all, (share,))
        start = time.perf_counter()
        running = [pool.apply_async(label_all, (share,)) for pool, share in zip(pools, shares, strict=True)]
        spent = sum(result.get() for result in running)
        return time.perf_counter() - start, spent


def main() -> None:
    spent = {published: 0.0, ours: 0.0}
    equal = True
    for given in prepared(tuple(range(IMAGES))):
        results = []
        for function in spent:
            start = time.process_time()
            results.append(function(*given))
            spent[function] += time.process_time() - start
        equal &= np.array_equal(results[0], results[1])
    theirs, mine = (seconds / IMAGES for seconds in spent.values())
    print(f"CPU seconds per image: published {theirs:.3f}, ours {mine:.3f}, {theirs / mine:.2f} times; labels equal: {equal}")
    (one, one_cpu), (two, two_cpu) = shared_out(1), shared_out(2)
    print(f"{IMAGES} images: one process {one:.2f} s ({one_cpu:.2f} of CPU), two {two:.2f} s ({two_cpu:.2f} of CPU)")
    print(
        f"two processes: efficiency {one / two / 2:.2f} by the clock, {one_cpu / two_cpu:.2f} by CPU time (other load left out)"
    )


if __name__ == "__main__":
    main()
