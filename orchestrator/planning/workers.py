"""The number of processes of a training if `training.workers` is not set: it follows from this machine's GPUs or cores."""

import ctypes
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata

from orchestrator.cores import cores
from orchestrator.planning.stage import Stage

WORKERS = "training.workers"


def room() -> int:
    """The number of this machine's GPUs, or of its cores if it has no GPU."""
    return gpus() or cores()


def gpus(environment: Mapping[str, str] = os.environ) -> int:
    """The NVIDIA GPUs that torch would find here; importing torch would take a second."""
    if metadata.version("torch").endswith("+cpu"):
        return 0
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return _counted_by_driver()
    named = [name.strip() for name in visible.split(",")]
    end = next((place for place, name in enumerate(named) if name in ("", "-1")), len(named))  # CUDA ignores the rest
    return min(end, _counted_by_driver()) if "MIG-" not in visible else end


def _counted_by_driver() -> int:
    """The number of GPUs that NVIDIA's driver counts, 0 without a driver."""
    count = ctypes.c_uint()
    try:
        driver = ctypes.CDLL("libnvidia-ml.so.1")
        failed = driver.nvmlInit_v2() or driver.nvmlDeviceGetCount_v2(ctypes.byref(count))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value


def dividing(stages: Sequence[Stage], room: int) -> int:
    """The largest number of workers up to `room` that divides every training's batch; at least 1."""
    return next((count for count in range(room, 1, -1) if divides(stages, count)), 1)


def divides(stages: Iterable[Stage], workers: int) -> bool:
    """Whether this number of workers divides every training's batch, and leaves each part the images that it needs."""
    return all(
        not batch % (workers * parts) and batch >= least * workers * parts for batch, parts, least in shared_batches(stages)
    )


def shared_batches(stages: Iterable[Stage]) -> Iterable[tuple[int, int, int]]:
    """The batch of every training, the number of parts of each worker's share, and the fewest images of a part."""
    for stage in stages:
        if stage.recipe.kind == "train" and "batch" in stage.settings:
            yield stage.settings["batch"], stage.settings.get("accumulate", 1), stage.least_share
