"""The tool that compares the losses of two commits finds the first difference, and says what it could not compare."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.same_losses import compare, verdict

ROOT = Path(__file__).parents[1]
STEPS = [{"epoch": 1, "boundary": 0.5, "field": 0.25}, {"epoch": 2, "boundary": 0.4, "field": 0.2}]


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (STEPS, "equal"),
        ([STEPS[0], {**STEPS[1], "field": 0.20000000000000004}], "step 2, field: 0.20000000000000004 there, 0.2 here"),
        ([{"epoch": 1, "boundary": 0.5}, STEPS[1]], "step 1, field: none there, 0.25 here"),
        (STEPS[:1], "1 steps there, 2 here"),
        ("error: no such setting", "failed there: error: no such setting"),
        (None, "only here"),
    ],
)
def test_the_first_difference_is_told(there, told: str) -> None:
    assert verdict(there, STEPS) == told


def test_what_only_one_commit_has_is_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare({"cam": STEPS, "irn": STEPS, "old": STEPS}, {"cam": STEPS, "irn": STEPS[:1], "new": STEPS}) == 1
    assert capsys.readouterr().out.splitlines() == [
        "cam  equal",
        "irn  2 steps there, 1 here",
        "new  only here",
        "old  only there",
    ]


def test_an_unknown_commit_is_told() -> None:
    command = [sys.executable, "-m", "benchmarks.same_losses", "no-such-commit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "no-such-commit" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_unchanged_tree_trains_as_its_commit_does() -> None:
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, check=True).stdout:
        pytest.skip("the working tree differs from its commit")
    command = [sys.executable, "-m", "benchmarks.same_losses", "HEAD", "--trainings", "cam"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "cam:cam-network  equal\n"), done.stderr
