"""How soon the commands that compute nothing answer: --help, ls, and the plan of a run on images seen before.

Run from the repository root: python -m benchmarks.startup

Beside them the bare interpreter with numpy, which a plan's image lists need. Median wall time of seven runs each.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("wsss-orch"))
REPEATS = 7


def seconds(command: list[str]) -> float:
    """Median wall time of a command that must succeed."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Print one line per command."""
    with tempfile.TemporaryDirectory() as store:
        run = [PROGRAM, "launch", "--method", "lpcam+amn", "--store", store]
        subprocess.run([PROGRAM, "images", "check", "shapes", "--store", store], check=True, capture_output=True)  # draws them
        commands = {
            "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
            "wsss-orch --help": [PROGRAM, "--help"],
            "wsss-orch ls": [PROGRAM, "ls"],
            "wsss-orch launch --plan": [*run, "--plan"],
        }
        for name, command in commands.items():
            print(f"{name:28} {seconds(command):.2f} s")


if __name__ == "__main__":
    main()
