"""How soon the commands that compute nothing answer: --help, ls, and the plan of a run on images seen before.

Run from the repository root after `make demo`: python -m benchmarks.startup

Beside them the bare interpreter with numpy, which a plan's image lists need. Median wall time of seven runs each.
"""

import statistics
import subprocess
import sys
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
    if not Path("wsss-store", "cache", "fingerprints.json").exists():
        raise SystemExit("there is no wsss-store here that a launch has used; run `make demo` first")
    commands = {
        "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
        "wsss-orch --help": [PROGRAM, "--help"],
        "wsss-orch ls": [PROGRAM, "ls"],
        "wsss-orch launch --plan": [PROGRAM, "launch", "--method", "lpcam+amn", "--plan"],
    }
    for name, command in commands.items():
        print(f"{name:28} {seconds(command):.2f} s")


if __name__ == "__main__":
    main()
