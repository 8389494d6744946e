"""CPU seconds and peak memory of a piece of work."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
RESET_PEAK = "5"  # written to clear_refs: restarts the measurement of the peak (proc(5))


@dataclass(frozen=True)
class Spent:
    """CPU seconds of all processes, and peak memory in bytes of the largest one; 0 if unknown."""

    cpu: float = 0.0
    memory: float = 0.0
    gpu_memory: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.cpu + other.cpu, max(self.memory, other.memory), max(self.gpu_memory, other.gpu_memory))

    def figures(self) -> dict[str, float | None]:
        """The entries of a manifest; None if unknown."""
        return {"cpu": self.cpu, "memory": self.memory or None, "gpu_memory": self.gpu_memory or None}


class Meter:
    """Measures this process, and its tensors on `device`, from now on."""

    def __init__(self, device: torch.device):
        self.device, self.cpu = device, time.process_time()
        with suppress(OSError):  # not Linux, or not allowed; then the peak is unknown
            (PROCESS / "clear_refs").write_text(RESET_PEAK, encoding="utf-8")
        if device.type == "cuda":
            torch.cuda.init()  # the counters exist only then, and nothing else may have used the GPU yet
            torch.cuda.reset_peak_memory_stats(device)

    def spent(self) -> Spent:
        """CPU seconds and peak memory so far."""
        on_gpu = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return Spent(time.process_time() - self.cpu, _peak(), on_gpu)


def _peak() -> float:
    """Peak memory of this process in bytes (VmHWM)."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        return 0.0
    return 1024.0 * int(found[1]) if found else 0.0
