"""CPU time and memory of one side of a benchmark."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def median_time(work: Callable[[], Result], rounds: int = 5) -> tuple[Result, float]:
    """The result of `work` and the median CPU seconds of a few rounds."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        result = work()
        times.append(time.process_time() - started)
    return result, statistics.median(times)


def measured(work: Callable[[], Result], rounds: int = 1) -> tuple[Result, float, float]:
    """As `median_time`, and the MB by which the peak of resident memory rose above what was in use before (Linux)."""
    reset_peak()
    before = memory("VmRSS")
    result, seconds = median_time(work, rounds)
    return result, seconds, memory("VmHWM") - before


@dataclass
class Cost:
    """Of one phase: wall and CPU seconds, and the MB by which this process's peak memory rose over what it held before."""

    wall: float = 0.0
    cpu: float = 0.0
    rise: float = 0.0


@contextmanager
def costs() -> Iterator[Cost]:
    """What the block costs this process."""
    cost = Cost()
    reset_peak()
    before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    yield cost
    cost.wall, cost.cpu, cost.rise = time.perf_counter() - wall, time.process_time() - cpu, memory("VmHWM") - before


def reset_peak() -> None:
    """Reset the peak of resident memory to what is in use now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def memory(field: str) -> float:
    """VmRSS (now) or VmHWM (peak since it was last reset) of this process, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024
