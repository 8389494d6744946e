"""Planning and scheduling image sets of growing size: what a launch costs beside its stages' work, per image and per shard.

Run from the repository root: python -m benchmarks.scale [--images 10000,100000,1000000]   (5 GB of memory)

The planner, the store, the shards, the runner and Ray are the real ones, on a cluster of nodes that share this machine. The
images are hard links to a few tiny files (see `benchmarks.simulated`), and two stages stand for the work: `asleep` sleeps 1 ms
an image and stores 16 bytes of it, `counting` reads those again and adds them up. Each size is measured in a process of its own,
whose peak memory is read from the kernel. Fails where an image is not counted once. `--limit` stops a launch after so many
seconds, as a signal does: its costs are then those of the shards it has made, and nothing is counted.
"""

import argparse
import contextlib
import io
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.clock import Cost, costs
from imagesets.folder import open_folder
from imagesets.item import Item
from orchestrator.engine.execution import Execution, Where
from orchestrator.engine.ray_shards import IN_FLIGHT
from orchestrator.planning.plan import Planner
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.recipe import StageRecipe
from orchestrator.planning.stage import Stage
from orchestrator.storage.shards import SHARD, shard_path
from orchestrator.storage.store import Store, read_manifest
from training.stage import Context, Settings

SLEEP = 0.001  # seconds an image
LIST = "train"
BARE = 1000  # Ray tasks that do nothing, for comparison


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
    first = Stage("asleep", "asleep", "asleep", work, LIST, settings={}, owned={}, inputs={})
    return [first, Stage("counting", "counting", "counting", score, LIST, settings={}, owned={}, inputs={"masks": first})]


def planned(images: Path, store: Path) -> tuple[Planner, list[PlannedStage]]:
    """A new plan, as every launch makes one."""
    opened = open_folder(images, {"labels": "auto", "masks": ["JPEGImages"]})
    planner = Planner(Store(store), opened, {})
    return planner, planner.plan(stages(), random_seed=0)


def launch(planner: Planner, steps: list[PlannedStage], address: str, limit: float) -> tuple[Cost, int]:
    """Carry a plan out, or stop it after `limit` seconds; its cost once Ray is connected, and the number of shards made."""
    before, log = made(steps), planner.store.root / "log.txt"
    with Execution(Console(file=io.StringIO()), planner, 1, Where("ray", address), log) as execution:
        timer = threading.Timer(limit, execution.runner.stop)
        timer.start()
        with costs() as cost, contextlib.suppress(KeyboardInterrupt):
            failures = execution.run([steps])
            if failures[0]:
                raise failures[0]
        timer.cancel()
    return cost, made(steps) - before


def made(steps: list[PlannedStage]) -> int:
    """How many shards of all steps are there."""
    return sum(1 for step in steps for _ in step.folder.glob("shards/*.npz"))


def check_counts(steps: list[PlannedStage]) -> None:
    """Fail unless every image was counted once, with its own record."""
    manifest = read_manifest(steps[-1].folder)
    expected = {"images": len(steps[0].items), "right": len(steps[0].items)}
    assert manifest and manifest["result"] == expected, manifest


def fill_up(step: PlannedStage) -> None:
    """Make the shards that a stopped launch did not reach, as links to the first shard; only their existence matters."""
    first = shard_path(step.folder, 0)
    for index in range(-(-len(step.items) // SHARD)):
        with contextlib.suppress(FileExistsError):
            os.link(first, shard_path(step.folder, index))
    (step.folder / "manifest.json").unlink(missing_ok=True)


def halve(step: PlannedStage) -> None:
    """Remove the manifest and every second shard of a stage."""
    (step.folder / "manifest.json").unlink()
    for path in sorted((step.folder / "shards").iterdir())[::2]:
        path.unlink()


def bare(address: str, seconds: float) -> Cost:
    """Ray's own cost of tasks that sleep, as many in flight as the engine allows."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    nap: Any = ray.remote(lambda seconds: time.sleep(seconds))  # a built-in function is none of Ray's
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


def measure(count: int, nodes: int, cpus: int, limit: float, folder: Path) -> None:
    """Print all figures of one size."""
    from benchmarks.simulated import cluster, write_images

    shards = -(-count // SHARD)
    images, store = write_images(folder / "images", count), folder / "store"
    Store(store).open()
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
        cost, done = launch(planner, steps, address, limit)
        shown("launch", cost, done)
        if done == 2 * shards:
            check_counts(steps)
        fill_up(steps[0])
        planner.look(steps[0])
        cost, none = launch(planner, steps[:1], address, limit)
        assert none == 0 and read_manifest(steps[0].folder), "what was there has been made again"
        shown("resume, nothing missing", cost, shards)
        halve(steps[0])
        planner.look(steps[0])
        shown("resume, half missing", *launch(planner, steps[:1], address, limit))
        shown("bare Ray, no work", bare(address, 0.0), BARE)
        shown("bare Ray, same sleep", bare(address, SHARD * SLEEP), BARE)


def shown(name: str, cost: Cost, tasks: int) -> None:
    """Print a cost per shard or task."""
    if not tasks:
        raise SystemExit(f"{name}: --limit ended it before its first shard; allow it more seconds")
    each = f"driver {1e3 * cost.cpu / tasks:6.2f} ms CPU a shard, wall {1e3 * cost.wall / tasks:6.2f} ms"
    print(f"  {name:24} {cost.wall:7.2f} s, {tasks} shards, {each}, peak +{cost.rise:.0f} MB", flush=True)


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="10000,100000", help="sizes, separated by commas")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=2, help="logical CPUs per node")
    parser.add_argument(
        "--limit", type=float, default=3600, help="seconds after which a launch is stopped; then part is measured"
    )
    parser.add_argument("--folder", default=None, help="where images and store lie for the time being; a fast disk or tmpfs")
    asked = parser.parse_args()
    if "," not in asked.images:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            measure(int(asked.images), asked.nodes, asked.cpus, asked.limit, Path(folder))
        return
    same = [f"--{name}={value}" for name, value in vars(asked).items() if name != "images" and value is not None]
    for count in asked.images.split(","):
        subprocess.run([sys.executable, "-m", "benchmarks.scale", "--images", count, *same], check=True)


if __name__ == "__main__":
    main()
