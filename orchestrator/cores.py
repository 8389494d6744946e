"""The cores that this process may use: those that it is bound to (taskset, Slurm), up to the quota of its container."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cores(groups: Path = GROUPS, own: Path = OWN) -> int:
    """Their number, at least 1; a quota of 1.5 CPUs counts as 2 cores. Linux shows control groups in `groups` and `own`."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *map(math.ceil, _quotas(groups, own))]))


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """The quotas, in cores, of this process's control group and those above it (version 2) and of its container (version 1)."""
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    place = groups / next((line.removeprefix("0::/") for line in lines if line.startswith("0::")), "")
    for folder in (place, *place.parents):
        if folder.is_relative_to(groups) and (limit := folder / "cpu.max").is_file():
            quota, period = limit.read_text(encoding="utf-8").split()
            if quota != "max":
                yield int(quota) / int(period)
    if (limit := groups / "cpu/cpu.cfs_quota_us").is_file() and (share := int(limit.read_text(encoding="utf-8"))) > 0:
        yield share / int(limit.with_name("cpu.cfs_period_us").read_text(encoding="utf-8"))
