"""CPU time and memory of one side of a benchmark."""

import statistics
import time
from collections.abc import Callable
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
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _memory("VmRSS")
    result, seconds = median_time(work, rounds)
    return result, seconds, _memory("VmHWM") - before


def _memory(field: str) -> float:
    """VmRSS (now) or VmHWM (peak since it was last reset) of this process, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024
