"""How near `seed_threshold=auto` comes to the best threshold and to the presets', for the seeds of finished runs.

Run from the repository root: python -m benchmarks.seed_thresholds --images folder:PATH STORE... [--list train] [--half odd]

A half of the list are the images whose sha256 of the id is even or odd. The rule was chosen on `shapes` and the even half of six
classes of VOC; the odd half had no part in it. Prints for each seed the mIoU at today's setting, at `auto` and at the best of all
thresholds in hundredths, which is an oracle; then how far the rules that were tried stay below the oracle. Masks count for the
mIoU alone.
"""

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from imagesets.image_set import ImageSet
from imagesets.item import Item
from metrics import region, thresholds
from orchestrator.engine.context import stored
from orchestrator.planning.experiment import Request, settings_given
from orchestrator.planning.images import images_alone
from orchestrator.storage.store import Store, read_json, read_manifest
from refiners import seed_threshold

GRID = np.arange(100) / 100
RULES: dict[str, Callable[[np.ndarray], float]] = {
    "auto": seed_threshold.threshold,
    "mean": lambda pixels: mean(pixels, 1),
    "1.5 x mean": lambda pixels: 1.5 * mean(pixels, 1),
    "2 x mean": lambda pixels: 2 * mean(pixels, 1),
    "root of the mean square": lambda pixels: mean(pixels, 2) ** 0.5,
    "Otsu": seed_threshold.otsu,
    "0.25": lambda _: 0.25,
    "0.30": lambda _: 0.3,
}


@dataclass(frozen=True)
class Seed:
    """The seed of a finished run: the run, the component, its setting today, the folder of its maps and their reader."""

    run: str
    component: str
    fixed: float
    folder: Path
    read: str


def mean(pixels: np.ndarray, power: int) -> float:
    """The mean of a power of the values of a histogram."""
    return float(pixels @ seed_threshold.CENTRES**power / pixels.sum())


def seeds(stores: Sequence[Path], images: str, split: str) -> Iterator[Seed]:
    """The seeds of all runs whose maps are still there, each once."""
    seen = set()
    for store in map(Store, stores):
        for path in sorted(store.root.glob("runs/*/results.json")):
            run = read_json(path) or {}
            for row in run.get("rows", ()):
                folder = store.folder(row["stage"], row["key"])
                if "curve" in row and row["split"] == split and folder not in seen and (made := read_manifest(folder)):
                    seen.add(folder)
                    given = run["command"]
                    request = Request(run["method"], images, given["segmenter"], given["recipe"])
                    fixed = settings_given(request)[f"{row['component']}.seed_threshold"]
                    yield Seed(run["run"], row["component"], fixed, folder, made["read"])


def measured(seed: Seed, items: Sequence[Item], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The histogram of the maps' values on these images, and the mIoU [100] at each threshold, in percent."""
    records: Any = stored(seed.folder, seed.read)
    pixels = np.zeros(seed_threshold.BINS, np.int64)
    matrices = np.zeros((len(GRID), classes + 1, classes + 1), np.int64)
    for item in items:
        maps = records[item.id]
        pixels += seed_threshold.of_maps(maps)
        matrices += thresholds.sweep(maps.full().numpy(), maps.keys, item.truth(), GRID, classes)
    return pixels, 100 * region.miou(matrices)


def at(curve: np.ndarray, threshold: float) -> float:
    """The mIoU at the hundredth next to a threshold."""
    return float(curve[np.abs(GRID - threshold).argmin()])


def half_of(images: ImageSet, split: str, half: str) -> list[Item]:
    """The images of a list whose hash is even or odd, or all of them."""
    wanted = {"even": (0,), "odd": (1,), "both": (0, 1)}[half]
    items = images.masked(split, images.items(split))
    return [item for item in items if hashlib.sha256(item.id.encode()).digest()[-1] % 2 in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--list", default="train", dest="split")
    parser.add_argument("--half", default="odd", choices=("even", "odd", "both"))
    given = parser.parse_args()
    images, _ = images_alone(given.images, [], given.stores[0].resolve())
    items = half_of(images, given.split, given.half)
    print(f"{len(items)} images of {images.name}, {given.split}, {given.half}; mIoU at a threshold\n")
    print("| run | seed of | fixed | auto | oracle | auto - oracle | auto - fixed |\n|---|---|---|---|---|---|---|")
    gaps: dict[str, list[float]] = {name: [] for name in RULES}
    for seed in seeds(given.stores, given.images, given.split):
        pixels, curve = measured(seed, items, len(images.classes))
        auto = round(seed_threshold.threshold(pixels), 2)
        told = [f"{at(curve, level):.1f} at {level:.2f}" for level in (seed.fixed, auto, GRID[curve.argmax()])]
        further = f"{at(curve, auto) - curve.max():+.1f} | {at(curve, auto) - at(curve, seed.fixed):+.1f}"
        print(f"| {seed.run} | {seed.component} | {' | '.join(told)} | {further} |", flush=True)
        for name, rule in RULES.items():
            gaps[name].append(curve.max() - at(curve, rule(pixels)))
    print("\n| rule | below the oracle: mean | worst |\n|---|---|---|")
    for name, below in gaps.items():
        print(f"| {name} | {fmean(below):.1f} | {max(below):.1f} |")


if __name__ == "__main__":
    main()
