"""Planning and scheduling image sets of growing size: what a launch costs beside its stages' work, per image and per shard.

Run from the repository root: python -m benchmarks.scale [--images 10000,100000,1000000]   (a quarter of an hour, 5 GB of memory)

The planner, the store, the shards, the runner and Ray are the real ones, on a cluster of nodes that share this machine. The
images are hard links to a few tiny files (see `benchmarks.simulated`), and two stages stand for the work: `asleep` sleeps 1 ms
an image and stores 16 bytes of it, `counting` reads those again and adds them up. Each size is measured in a process of its own,
whose peak memory is read from the kernel. Fails where an image is not counted once.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.clock import Cost, costs
from imagesets.item import Item
from imagesets.layout import open_image_set
from orchestrator.engine.execution import Execution, Where
from orchestrator.engine.ray_engine import IN_FLIGHT
from orchestrator.planning.expression import Stage
from orchestrator.planning.plan import Planner, Step
from orchestrator.planning.recipes import StageRecipe
from orchestrator.storage.shards import SHARD
from orchestrator.storage.store import Store, read_manifest
from training.stage import Context, Settings

SLEEP = 0.001  # seconds an image
LISTS = {"training": "train", "scoring": "train", "validation": "train"}
BARE = 3000  # Ray tasks that do nothing, for comparison


def asleep(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage: stands for the work on an image."""

    def one(item: Item) -> dict[str, np.ndarray]:
        time.sleep(SLEEP)
        return {"label": np.full(16, item.labels[0], np.uint8)}

    return one


def counting(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage: reads what `asleep` has stored of an image, and counts it."""

    def one(item: Item) -> dict[str, np.ndarray]:
        stored = context.inputs["masks"][item.id]["label"]
        return {"images": np.array(1), "right": np.array(int((stored == item.labels[0]).all()))}

    return one


def counted(settings: Settings, classes: tuple[str, ...], summed: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Result of `counting`."""
    return {name: int(number) for name, number in summed.items()}


def stages() -> list[Stage]:
    """The two stages as recipes would declare them."""
    here = "benchmarks.scale"
    work = StageRecipe(name="asleep", call=f"{here}:asleep", writes="masks")
    score = StageRecipe(
        name="counting",
        call=f"{here}:counting",
        result=f"{here}:counted",
        list="scoring",
        truth=True,
        store="sum",
        reads=("masks",),
    )
    first = Stage("asleep", "asleep", work, {}, {})
    return [first, Stage("counting", "counting", score, {}, {"masks": first})]


def planned(images: Path, store: Path) -> tuple[Planner, list[Step]]:
    """A new plan, as every launch makes one."""
    opened = open_image_set(f"folder:{images}", {"labels": "auto", "masks": ["JPEGImages"]})
    planner = Planner(Store(store), opened, LISTS, {})
    return planner, planner.plan(stages(), random_seed=0)


def launch(planner: Planner, steps: list[Step], address: str) -> Cost:
    """Carry a plan out; its cost once Ray is connected."""
    with Execution(Console(file=io.StringIO()), planner, 1, Where("ray", address), planner.store.root / "log.txt") as execution:
        with costs() as cost:
            (failure,) = execution.run([steps])
        if failure:
            raise failure
    result = (read_manifest(steps[-1].folder) or {})["result"]
    assert result == {"images": len(steps[0].items), "right": len(steps[0].items)}, result
    return cost


def forget(step: Step, every: int) -> None:
    """Undo a finished stage's end and, of its shards, one in `every` (none if 0), as a launch does that is killed."""
    (step.folder / "manifest.json").unlink()
    if every:
        for path in sorted((step.folder / "shards").iterdir())[::every]:
            path.unlink()


def closing(step: Step) -> float:
    """Seconds from a stage's last shard to its manifest."""
    last = max(path.stat().st_mtime for path in (step.folder / "shards").iterdir())
    return (step.folder / "manifest.json").stat().st_mtime - last


def bare(address: str, seconds: float) -> Cost:
    """Ray's own cost of tasks that sleep, as many in flight as the engine allows."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    nap = ray.remote(time.sleep)
    limit = IN_FLIGHT * int(ray.cluster_resources()["CPU"])
    ray.get([nap.remote(0) for _ in range(limit)])  # all workers are up
    with costs() as cost:
        running: list[Any] = []
        for _ in range(BARE):
            if len(running) == limit:
                _, running = ray.wait(running)
            running.append(nap.remote(seconds))
        ray.get(running)
    ray.shutdown()
    return cost


def measure(count: int, nodes: int, cpus: int, folder: Path) -> None:
    """Print all figures of one size."""
    from benchmarks.simulated import cluster, write_images

    shards = -(-count // SHARD)
    images, store = write_images(folder / "images", count), folder / "store"
    with costs() as first:
        planner, steps = planned(images, store)
    planner.fingerprints.save()
    with costs() as again:
        planned(images, store)
    print(f"{count} images, {shards} shards a stage, {nodes} x {cpus} logical CPUs", flush=True)
    for name, cost in (("plan, files hashed", first), ("plan, files known", again)):
        each = f"{1e6 * cost.cpu / count:6.1f} us CPU and {1024 * cost.rise / count:5.2f} kB peak an image"
        print(f"  {name:24} {cost.wall:7.2f} s, {each}", flush=True)
    with cluster(nodes, cpus) as address:
        shown("launch", launch(planner, steps, address), 2 * shards)
        print(f"  {'last shard to manifest':24} {1e3 * closing(steps[0]) / shards:6.3f} ms a shard")
        for name, every in (("resume, all shards there", 0), ("resume, half of them", 2)):
            for step in steps:
                forget(step, every)
            shown(name, launch(*planned(images, store), address), 2 * shards)
        shown("bare Ray, no work", bare(address, 0.0), BARE)
        shown("bare Ray, same sleep", bare(address, SHARD * SLEEP), BARE)


def shown(name: str, cost: Cost, tasks: int) -> None:
    """Print a cost per shard or task."""
    each = f"driver {1e3 * cost.cpu / tasks:6.2f} ms CPU a shard, wall {1e3 * cost.wall / tasks:6.2f} ms"
    print(f"  {name:24} {cost.wall:7.2f} s, {each}, peak +{cost.rise:.0f} MB", flush=True)


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="10000,100000,1000000", help="sizes, separated by commas")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=2, help="logical CPUs per node")
    parser.add_argument("--folder", default=None, help="where images and store lie for the time being; a fast disk or tmpfs")
    asked = parser.parse_args()
    if "," not in asked.images:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            measure(int(asked.images), asked.nodes, asked.cpus, Path(folder))
        return
    for count in asked.images.split(","):
        command = [
            sys.executable,
            "-m",
            "benchmarks.scale",
            "--images",
            count,
            "--nodes",
            str(asked.nodes),
            "--cpus",
            str(asked.cpus),
        ]
        subprocess.run([*command, *(["--folder", asked.folder] if asked.folder else [])], check=True)


if __name__ == "__main__":
    main()
