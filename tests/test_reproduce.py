"""`reproduce` prints the command that makes the run again, and a line for each difference on this machine."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.afterwards import reproduce as reproducing
from orchestrator.afterwards.command import request_of
from orchestrator.planning.experiment import experiment
from orchestrator.planning.recipe import Setting
from orchestrator.planning.settings import checked, parse_assignments
from orchestrator.planning.values import as_text
from orchestrator.reading.runs import open_run
from orchestrator.storage.store import read_json, write_json
from tests.conftest import Command
from tests.finished_run import finished_run

kinds = (st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
values = st.one_of(st.none(), *kinds, *(st.lists(kind, min_size=1, max_size=3) for kind in kinds))


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    """A launch with every option: a file of settings, single settings, weights, excluded ids."""
    torch.save({"weight": torch.zeros(1)}, tmp_path / "my weights.pth")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"cam.epochs": 2, "cam.scales": [1.0, 0.5], "deeplabv2.crop": 64}))
    (tmp_path / "out.txt").write_text("train_3\n")
    assignments = ("cam.lr=1e-5", f"backbone.weights={tmp_path / 'my weights.pth'}", "cam.epochs=3", "deeplabv2.crf=seam")
    return {
        "recipe": str(tmp_path / "mine.yaml"),
        "assignments": assignments,
        "exclude": tmp_path / "out.txt",
        "random_seed": 7,
        "segmenter": "",
    }


@pytest.fixture
def finished(image_set: Path, tmp_path: Path, asked: dict[str, Any]) -> tuple[Path, str]:
    """A store and the name of the run in it."""
    store = tmp_path / "store"
    return store, finished_run(store, image_set, "cam+none", **asked)[2].name


def told(shown: str) -> dict[str, str]:
    """Each line by its subject: same, differs or unknown, and how."""
    return {line[:32].strip(): line[32:] for line in shown.splitlines()[1:-1]}


def same(lines: dict[str, str], *names: str) -> bool:
    return all(lines[name].startswith("same") for name in names)


def test_the_printed_command_finds_every_stage_of_the_run_made(command: Command, finished: tuple[Path, str]) -> None:
    store, run = finished
    code, shown, _ = command("reproduce", run, "--store", store)
    program, *words = shlex.split(shown.splitlines()[0])
    assert code == 0 and program == "wsss-orch" and "mine.yaml" not in shown  # the file may change: its settings are told
    assert "nothing differs here" in shown
    code, shown, _ = command(*words, "--store", store, "--plan")
    assert code == 0 and "all 8 stages cached; nothing to do" in shown


def test_its_settings_are_those_of_the_run_to_the_last(finished: tuple[Path, str]) -> None:
    run = open_run(*finished)
    request = request_of(run)
    assert dict(experiment(request).settings) == run.results["settings"] and request.random_seed == 7
    changed = {assignment.partition("=")[0] for assignment in request.assignments}
    assert changed == {
        "cam.lr",
        "backbone.weights",
        "cam.epochs",
        "cam.scales",
        "deeplabv2.crop",
        "deeplabv2.crf",
        "training.workers",
    }


def test_a_preset_and_a_segmenter_by_name_stay_names(image_set: Path, tmp_path: Path) -> None:
    assert finished_run(tmp_path / "store", image_set, "cam+none", recipe="laptop", assignments=("cam.epochs=9",))
    (folder,) = (tmp_path / "store" / "runs").iterdir()
    run = open_run(tmp_path / "store", folder.name)
    request = request_of(run)
    by_machine = ("training.workers", "training.precision", "extraction.precision")  # these would follow the other machine
    expected = {"cam.epochs=9", *(f"{name}={run.results['settings'][name]}" for name in by_machine)}
    assert (request.recipe, request.segmenter, set(request.assignments)) == ("laptop", "deeplabv2-small", expected)


@given(values)
def test_any_value_comes_back_from_its_assignment(value: Any) -> None:
    setting = Setting(default=value)
    assert checked("it", parse_assignments([f"it={as_text(value)}"])["it"], setting) == value


def test_an_image_that_changed_is_told_and_the_stages_that_would_be_made_anew(
    command: Command, finished: tuple[Path, str], image_set: Path
) -> None:
    shutil.copy(image_set / "JPEGImages" / "val_0.png", image_set / "JPEGImages" / "val_1.png")
    lines = told(command("reproduce", finished[1], "--store", finished[0])[1])
    assert lines["images of val"].startswith("differs") and "; here other ones" in lines["images of val"]
    assert lines["keys"].endswith("; here other results in deeplabv2-predictions, deeplabv2-predictions-score")
    assert same(lines, "masks of val", "images of train", "masks of train", "code", "commit")


def test_other_packages_and_another_commit_are_told(
    command: Command, finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {**reproducing.versions(), "torch": "99.0"}
    del here["ray"]
    monkeypatch.setattr(reproducing, "versions", lambda: here)
    monkeypatch.setattr(reproducing, "git_commit", lambda: "abc1234")
    shown = command("reproduce", finished[1], "--store", finished[0])[1]
    lines = told(shown)
    assert lines["package torch"].endswith("; here 99.0") and lines["package ray"].endswith("; here not installed")
    assert lines["commit"].endswith("; here abc1234") and same(lines, "package numpy", "keys")
    assert f"3 of {len(lines)} lines differ" in shown


def test_code_that_changed_is_told_by_stage(command: Command, finished: tuple[Path, str]) -> None:
    store, run = finished
    folder, manifest = open_run(store, run).result("cam-maps")
    write_json(folder / "manifest.json", {**manifest, "identity": {**manifest["identity"], "code": "of another version"}})
    assert told(command("reproduce", run, "--store", store)[1])["code"].endswith("; here other code in cam-maps")


@pytest.mark.parametrize("change", ["other", "gone"])
def test_weights_are_told_by_their_content(command: Command, finished: tuple[Path, str], tmp_path: Path, change: str) -> None:
    store, run = finished
    path = tmp_path / "my weights.pth"
    assert same(told(command("reproduce", run, "--store", store)[1]), "backbone.weights", "deeplabv2.weights")
    path.write_bytes(b"other") if change == "other" else path.unlink()
    code, shown, _ = command("reproduce", run, "--store", store)
    lines = told(shown)
    assert code == 0 and "my weights.pth (sha256 " in shown
    if change == "other":
        assert "; here my weights.pth (sha256 " in lines["backbone.weights"] and "cam-network" in lines["keys"]
    else:
        assert lines["backbone.weights"].endswith(f"; here {path}") and "is no existing file" in lines["plan"]
        assert lines["keys"].startswith("unknown") and lines["images of train"].startswith("unknown")


def test_images_that_are_not_here_are_told(command: Command, finished: tuple[Path, str], image_set: Path) -> None:
    image_set.rename(image_set.with_name("moved"))
    code, shown, _ = command("reproduce", finished[1], "--store", finished[0])
    assert code == 0 and "is no folder; it must hold" in told(shown)["plan"] and f"folder:{image_set}" in shown.splitlines()[0]


def test_stages_that_are_not_in_the_store_any_more_are_told(command: Command, finished: tuple[Path, str]) -> None:
    store, run = finished
    shutil.rmtree(open_run(store, run).result("cam-maps")[0])
    assert told(command("reproduce", run, "--store", store)[1])["store"].endswith("not there any more: cam-maps")


def test_settings_that_only_one_version_has_are_told(command: Command, finished: tuple[Path, str]) -> None:
    store, run = finished
    path = store / "runs" / run / "results.json"
    results = read_json(path)
    assert results is not None
    for name in ("cam.momentum", "recam.lambda"):
        del results["settings"][name]
    results["used"].append("cam.forgotten")
    write_json(path, {**results, "settings": {**results["settings"], "cam.forgotten": 3, "gone.unread": 3}})
    lines = told(command("reproduce", run, "--store", store)[1])
    assert lines["setting cam.forgotten"].endswith("3; here there is none") and same(lines, "keys")
    assert lines["setting cam.momentum"].startswith("differs  there was none; here 0.")
    assert {line for line in lines if line.startswith("setting")} == {"setting cam.forgotten", "setting cam.momentum"}


def test_a_run_of_an_older_version_is_refused(command: Command, finished: tuple[Path, str]) -> None:
    store, run = finished
    path = store / "runs" / run / "results.json"
    write_json(path, json.loads(path.read_text()) | {"format": 1})
    code, _, errors = command("reproduce", run, "--store", store)
    assert code == 2 and "was written by an older version; launch it again" in errors
