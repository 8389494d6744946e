"""The benchmarks of the whole orchestrator and of the published stages run at a small size, count right and agree."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.published.__main__ import STAGES

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


TINY = (
    "--size=48x64",
    "--rounds=1",
    "--batch=2",
    *(f"--set={name}.crop=96" for name in ("cam", "irn", "amn")),
    "--set=deeplabv2.crop=48",
)


@pytest.mark.slow
def test_every_stage_gives_what_its_published_form_gives() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.published", *TINY], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == list(STAGES)
    # rounding flips rectifiers, of which a gradient has passed a hundred layers
    assert {row[0]: row[7] for row in rows if not float(row[7]) < (2e-2 if "step" in row[0] else 2e-3)} == {}
    assert {row[0] for row in rows if row[8]} == {
        name for name in STAGES if name.split("-")[0] not in ("crf", "walk", "threshold")
    }
