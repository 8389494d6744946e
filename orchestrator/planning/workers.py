"""How many processes share a training where `training.workers` does not say: as many as this machine has GPUs, or else cores."""

import ctypes
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata

from orchestrator.planning.stage import Stage

WORKERS = "training.workers"


def room() -> int:
    """The GPUs of this machine, or its cores where it has none."""
    return gpus() or len(os.sched_getaffinity(0))


def gpus(environment: Mapping[str, str] = os.environ) -> int:
    """The NVIDIA GPUs that torch would find here, without the second that importing it takes."""
    if metadata.version("torch").endswith("+cpu"):
        return 0
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return _driver_s()
    named = [name.strip() for name in visible.split(",")]
    end = next((place for place, name in enumerate(named) if name in ("", "-1")), len(named))  # CUDA stops there
    return min(end, _driver_s()) if "MIG-" not in visible else end


def _driver_s() -> int:
    """What NVIDIA's driver counts, 0 where there is none."""
    count = ctypes.c_uint()
    try:
        driver = ctypes.CDLL("libnvidia-ml.so.1")
        failed = driver.nvmlInit_v2() or driver.nvmlDeviceGetCount_v2(ctypes.byref(count))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value


def dividing(stages: Sequence[Stage], room: int) -> int:
    """The largest number of workers up to `room` that share every training's batch evenly; 1 where none does."""
    return next((count for count in range(room, 1, -1) if divides(stages, count)), 1)


def divides(stages: Iterable[Stage], workers: int) -> bool:
    """Whether so many workers share every training's batch evenly."""
    return all(batch % (workers * parts) == 0 for batch, parts in shared_batches(stages))


def shared_batches(stages: Iterable[Stage]) -> Iterable[tuple[int, int]]:
    """The batch of every training, and the parts that each worker takes its share in."""
    for stage in stages:
        if stage.recipe.kind == "train" and "batch" in stage.settings:
            yield stage.settings["batch"], stage.settings.get("accumulate", 1)
