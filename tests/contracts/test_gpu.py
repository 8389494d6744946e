"""Tests on a GPU: it trains and extracts as a CPU does, within rounding, and its memory is freed.

`make test-gpu` runs these where there is one; WSSS_TEST_DEVICE=cpu runs them on a CPU, which shows that they run at all.
"""

import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.contracts.cases import Case, every
from tests.contracts.images import write_images
from tests.contracts.laboratory import Laboratory, Made, check_alike, same
from tests.contracts.recorded import change, check_recorded
from tests.contracts.test_precision import check_extraction, reads_a_network
from tests.contracts.test_trainings import check_history
from tests.contracts.two_processes import train_in_two
from tests.launching import launch, manifests
from tests.recorded_on_cpu import on_cpu
from training import loop

pytestmark = pytest.mark.gpu
TRAININGS, MAPPINGS = every("train"), every("map")
PIPELINED = [case for case in MAPPINGS if reads_a_network(case) and case.stage.recipe.over == "images"]
SAME_WAY = 0.02  # share of what a training changes in which two devices may differ: rounding is 1e-5 of that a step

OF_DIVIDED_MAPS = {"background", "equivariance", "cross_equivariance"}  # losses; a tiny network's maps have maxima near 0


@pytest.fixture(scope="module")
def device() -> Iterator[str]:
    """The device that is tried, without TF32: its ten bits would hide what is looked for."""
    wanted = os.environ.get("WSSS_TEST_DEVICE", "cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no GPU; WSSS_TEST_DEVICE=cpu tries these tests on its CPU")
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield wanted


@pytest.fixture(params=TRAININGS, ids=lambda case: case.name)
def training(request: pytest.FixtureRequest, laboratory: Laboratory) -> Made:
    """A training, made on the CPU."""
    return laboratory.made(request.param)


def without_dropout(made: Made) -> dict[str, object]:
    """The settings that switch dropout off: each device draws its own."""
    return {name: 0.0 for name in made.job.settings if name.rpartition(".")[2] == "dropout"}


def test_a_training_changes_the_weights_as_on_the_cpu(device: str, training: Made, tmp_path: Path) -> None:
    off = without_dropout(training)
    here, there = (training.again(tmp_path / name, name, changed=off) for name in ("cpu", device))
    check_history(there.history)
    for name, loss in here.history[0].items():
        assert there.history[0][name] == pytest.approx(loss, rel=1e-3, abs=1e-4), name
    own, other = (change(training.initial(), trained.weights) for trained in (here, there))
    assert (other - own).norm() < SAME_WAY * own.norm()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_on_it_stays_near_float32(
    device: str, training: Made, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = without_dropout(training)
    scaler = torch.amp.GradScaler(device, init_scale=64, enabled=precision == "float16")
    exact = training.again(tmp_path / "float32", device, changed=off)
    monkeypatch.setattr(loop, "_scaler", lambda run: scaler)  # with the usual scale it leaves out the first of few steps
    coarse = training.again(tmp_path / precision, device, changed={**off, "training.precision": precision})
    assert {values.dtype for values in coarse.weights.values()} == {values.dtype for values in exact.weights.values()}
    assert coarse.history != exact.history, f"the forward pass was not in {precision}"
    for name, loss in exact.history[0].items():
        near = pytest.approx(loss, rel=0.3) if name in OF_DIVIDED_MAPS else pytest.approx(loss, rel=0.05, abs=0.02)
        assert coarse.history[0][name] == near, name


def test_recorded_calls_compute_what_the_kernels_one_by_one_do(
    device: str, training: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cpu":
        on_cpu(monkeypatch)
    check_recorded(training, device, tmp_path, monkeypatch)


def test_batches_that_others_load_and_pin_are_the_same(device: str, training: Made, tmp_path: Path) -> None:
    off = without_dropout(training)
    alone, helped = (
        training.again(tmp_path / str(count), device, changed={**off, "training.loaders": count}) for count in (0, 2)
    )
    for name, loss in alone.history[0].items():
        assert helped.history[0][name] == pytest.approx(loss, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("case", filter(reads_a_network, MAPPINGS), ids=lambda case: case.name)
def test_an_extraction_in_bfloat16_on_it_stays_near_float32(device: str, laboratory: Laboratory, case: Case) -> None:
    check_extraction(laboratory.made(case), device)


@pytest.mark.parametrize("case", [case for case in MAPPINGS if reads_a_network(case)], ids=lambda case: case.name)
def test_a_per_image_stage_makes_what_the_cpu_makes(device: str, laboratory: Laboratory, case: Case) -> None:
    made = laboratory.made(case)
    one = made.one(device)
    for part in made.job.parts():
        check_alike(one(part), made.arrays[made.job.name_of(part)])


def test_two_workers_share_a_training_on_two_gpus(device: str, laboratory: Laboratory, tmp_path: Path) -> None:
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip(f"NCCL needs a GPU for each worker, and this machine has {torch.cuda.device_count()}")
    jobs = {case.name: laboratory.made(case) for case in TRAININGS}
    backend = "nccl" if device == "cuda" else "gloo"
    for name, (first, second, _) in train_in_two(jobs, tmp_path, backend).items():
        assert same(first["parameters"], second["parameters"]) and first["history"] == second["history"], name
        check_history(first["history"])


def held(device: str) -> int:
    """Bytes of all tensors on a device."""
    gc.collect()
    if device == "cuda":
        torch._C._cuda_clearCublasWorkspaces()  # which cuBLAS keeps for itself
        return torch.cuda.memory_allocated()
    storages = {own.untyped_storage().data_ptr(): own for own in gc.get_objects() if isinstance(own, torch.Tensor)}
    return sum(own.untyped_storage().nbytes() for own in storages.values())


def test_nothing_stays_on_it_after_a_stage(device: str, tmp_path: Path) -> None:
    bench = Laboratory(tmp_path / "store", write_images(tmp_path / "images", ("red", "blue")), device)
    first, *others = (case for case in (*TRAININGS, *MAPPINGS))
    bench.made(first)
    before, network = held(device), 4 * sum(value.numel() for value in bench.made(first).weights.values())
    for case in others:
        bench.made(case)
        assert held(device) - before < network / 10, f"{case.name} leaves something behind"


def test_a_whole_launch_runs_on_it(device: str, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", ("red", "blue"))
    done = launch(images, tmp_path / "store", "--engine", "local")
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = (json.loads(path.read_text()) for path in tmp_path.glob("store/runs/*/results.json"))
    assert [row["component"] for row in results["rows"]] == ["lpcam", "amn", "irn", "deeplabv2"]
    found = {manifest["device"] for manifest in manifests(tmp_path / "store").values()}
    assert found == {torch.cuda.get_device_name() if device == "cuda" else "cpu"}
    if device == "cuda":
        trained = manifests(tmp_path / "store")["deeplabv2-segmenter"]
        assert trained["gpu_memory"] > 4 * 10**6, "the segmenter's weights alone take more"
