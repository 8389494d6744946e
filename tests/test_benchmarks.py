"""The benchmarks of the whole orchestrator run at a small size and count right."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scale", ("--images=300", "--cpus=1")),
        ("refinement_workers", ("--images=4", "--rounds=1")),
    ],
)
def test_a_benchmark_runs(name: str, options: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert f"{options[0].removeprefix('--images=')} images" in done.stdout
