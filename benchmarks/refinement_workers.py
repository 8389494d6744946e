"""Refinement by one and by two CPU workers through the engines: wall time, CPU time and parallel efficiency.

Run from the repository root: python -m benchmarks.refinement_workers [--images 256] [--rounds 3]   (ten minutes)

A real plan (`cam+crf` from maps that are there) on images of 375x500; timed is the stage `crf-masks` as its manifest tells it,
with the start of the workers. On Ray with one and two CPUs in turn, and on the local engine, which has one process for such
stages. Medians over the rounds; fails unless all runs store the same bytes.
"""

import argparse
import io
import shutil
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.crf_labels import example
from benchmarks.simulated import cluster
from imagesets.image_set import IMAGES, LISTS
from imagesets.labels import LABEL_LIST
from maps.grids import strided
from orchestrator.engine.execution import Execution, Where
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.prepared import Prepared, open_images_of, plan_with, prepare
from orchestrator.storage.store import Store, read_manifest

CLASSES = 20
STAGE = "crf-masks"
Timed = tuple[float, float]  # wall seconds, and CPU seconds of all workers


def write(folder: Path, count: int) -> tuple[Path, Path]:
    """An image set of examples of the CRF benchmark, and the folder of their maps."""
    root, maps = folder / "images", folder / "maps"
    for made in (root / IMAGES, root / LISTS, maps):
        made.mkdir(parents=True)
    names = [f"class{number}" for number in range(CLASSES)]
    lines = []
    for number in range(count):
        rgb, full, keys = example(number)
        Image.fromarray(rgb).save(root / IMAGES / f"{number:06d}.png")
        height, width = strided(rgb.shape[:2])
        small = full[:, ::4, ::4][:, :height, :width]
        np.savez(maps / f"{number:06d}.npz", keys=keys, cam=small.numpy().clip(0, 1), high_res=full.numpy().clip(0, 1))
        lines.append(" ".join([f"{number:06d}", *(names[key] for key in keys)]))
    (root / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (root / LABEL_LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / LISTS / "train.txt").write_text("".join(f"{number:06d}\n" for number in range(count)), encoding="utf-8")
    return root, maps


def planned(root: Path, maps: Path, store: Path) -> Prepared:
    """The plan of `cam+crf` on imported maps."""
    lists = ("images.masks=[JPEGImages]", "images.validation=train")  # masks are read by scores, which are not made here
    wanted = experiment(Request("cam+crf", f"folder:{root}", assignments=(f"imported.maps={maps}", *lists), store=store))
    Store(store).open()
    images = open_images_of(wanted, make=False)
    assert images is not None  # not the built-in ones
    return prepare(wanted, images)


def run(prepared: Prepared, until: str, where: Where) -> dict:
    """Carry out a stage; returns its manifest."""
    log = prepared.request.store / "log.txt"
    with Execution(Console(file=io.StringIO()), prepared.planner, 1, where, log) as execution:
        (failure,) = execution.run([plan_with(prepared.planner, prepared.experiment, until=until).steps])
    if failure:
        raise failure
    step = next(step for step in prepared.steps if step.stage.name == until)
    return read_manifest(step.folder) or {}


def refined(prepared: Prepared, where: Where) -> tuple[Timed, str]:
    """Refine all images anew: times, and the digest of what is stored."""
    step = next(step for step in prepared.steps if step.stage.name == STAGE)
    shutil.rmtree(step.folder, ignore_errors=True)
    prepared.planner.look(step)
    manifest = run(prepared, STAGE, where)
    return (manifest["wall"], manifest["cpu"]), manifest["digest"]


def on_ray(prepared: Prepared, cpus: int) -> tuple[Timed, str]:
    """Refine on a fresh cluster of one node with `cpus` CPUs."""
    with cluster(1, cpus) as address:
        return refined(prepared, Where("ray", address))


def main() -> None:
    """Print one line per configuration, and the efficiency from one to two workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help="a multiple of 64, so that two workers have equal shares")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    times: dict[str, list[Timed]] = defaultdict(list)
    digests = set()
    with tempfile.TemporaryDirectory() as folder:
        prepared = planned(*write(Path(folder), asked.images), Path(folder) / "store")
        source = next(step for step in prepared.steps if step.stage.name == STAGE).inputs["maps"]
        run(prepared, source.stage.name, Where("local"))
        configurations = {
            "local": lambda: refined(prepared, Where("local")),
            "ray, 1 worker": lambda: on_ray(prepared, 1),
            "ray, 2 workers": lambda: on_ray(prepared, 2),
        }
        for _ in range(asked.rounds):
            for name, measure in configurations.items():
                timed, digest = measure()
                times[name].append(timed)
                digests.add(digest)
    assert len(digests) == 1, "the runs have stored different masks"
    medians = {name: [statistics.median(values) for values in zip(*rounds, strict=True)] for name, rounds in times.items()}
    for name, (wall, cpu) in medians.items():
        walls = " ".join(f"{wall:.1f}" for wall, _ in times[name])
        print(f"{asked.images} images, {name:14} {wall:6.1f} s wall (each {walls}), {cpu:6.1f} s CPU in the work")
    for name in ("local", "ray, 1 worker"):
        (wall, cpu), (two, two_cpu) = medians[name], medians["ray, 2 workers"]
        print(f"from {name} to ray, 2 workers: efficiency {wall / two / 2:.2f} by the clock, {cpu / two_cpu:.2f} by CPU time")


if __name__ == "__main__":
    main()
