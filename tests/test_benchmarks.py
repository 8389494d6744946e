"""The benchmarks of the whole orchestrator and of the published stages run at a small size, count right and agree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import backbones, gpu
from benchmarks.published.__main__ import STAGES

ROOT = Path(__file__).parents[1]


def printed(name: str, *options: str) -> str:
    """What a benchmark prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(table: str) -> list[list[str]]:
    """The cells of a Markdown table below its heading."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scale", ("--images=300", "--cpus=1")),
        ("refinement_workers", ("--images=4", "--rounds=1")),
        ("coco_preparation", ("--images=130", "--drawn=64")),
    ],
)
def test_a_benchmark_runs(name: str, options: tuple[str, ...]) -> None:
    assert f"{options[0].removeprefix('--images=')} images" in printed(name, *options)


@pytest.mark.slow
def test_the_benchmark_of_the_backbones_has_a_line_for_each(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["backbones", "--side=64", "--backbones=small,small_vit"])
    backbones.main()
    head, _, *rows = (line.split(" | ") for line in capsys.readouterr().out.splitlines())
    assert [row[0] for row in rows] == ["| small", "| small_vit"]
    assert all(len(row) == len(head) and float(row[6]) < 1e-4 and float(row[7]) > 0 for row in rows)


def gpu_benchmark(*options: str) -> subprocess.CompletedProcess[str]:
    without = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-m", "benchmarks.gpu", *options]
    return subprocess.run(words, cwd=ROOT, env=without, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_without_a_gpu_its_benchmark_says_so():
    done = gpu_benchmark()
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == "torch finds no GPU on this machine; --device cpu runs a tiny configuration\n"


@pytest.mark.slow
def test_the_benchmark_of_the_gpu_has_a_rate_for_every_stage_and_its_bare_network() -> None:
    done = gpu_benchmark("--device=cpu", "--precision=bfloat16")
    assert done.returncode == 0, done.stderr
    head, *rows, goal = (line.split() for line in done.stdout.splitlines())
    assert [row[0] for row in rows] == [*gpu.TRAININGS, *gpu.EXTRACTIONS]
    assert all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows)
    assert len(head) == 6 and goal[:2] == ["goal:", "85%"]


@pytest.mark.slow
def test_the_segmenters_benchmark_has_equal_results_in_both_forms() -> None:
    names = "deeplabv2-small", "deeplabv3plus-small", "upernet-small"
    rows = rows_of(printed("segmenters", f"--segmenters={','.join(names)}", "--side=64"))
    assert [row[0] for row in rows] == list(names)
    assert all(float(row[5]) < 1e-4 and float(row[9]) < 1e-4 for row in rows)


TINY = (
    "--size=48x64",
    "--rounds=1",
    "--batch=2",
    *(f"--set={name}.crop=96" for name in ("cam", "irn", "amn", "affinitynet", "mctformer")),
    "--set=deeplabv2.crop=48",
)


@pytest.mark.slow
def test_every_stage_gives_what_its_published_form_gives() -> None:
    rows = rows_of(printed("published", *TINY))
    assert [row[0] for row in rows] == list(STAGES)
    # rounding flips rectifiers, of which a gradient has passed a hundred layers
    assert {row[0]: row[7] for row in rows if not float(row[7]) < (2e-2 if "step" in row[0] else 2e-3)} == {}
    assert {row[0] for row in rows if row[8]} == {
        name for name in STAGES if name.split("-")[0] not in ("crf", "walk", "threshold")
    }


STEP = ("--backbone=small", "--crop=64", "--rounds=1")


@pytest.mark.slow
def test_a_step_of_seam_gives_what_its_published_form_gives() -> None:
    told = printed("seam_step", *STEP)
    assert told.startswith("a step of SEAM on small") and "equal maps" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "methods"), [("saliency_steps", ["edam", "edam", "eps"]), ("position_steps", ["sipe", "spatial-bce"])]
)
def test_steps_of_methods_give_what_their_published_forms_give(name: str, methods: list[str]) -> None:
    lines = printed(name, *STEP).splitlines()
    assert [line.split()[3] for line in lines] == methods and "gradients" in lines[0] and "gradients" in lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixing_step", "recurseed_step"])
def test_recurseed_and_edge_predict_mix_give_what_their_plain_forms_give(name: str) -> None:
    assert "gradients" in printed(name, *STEP, "--batch=4", "--width=16")
