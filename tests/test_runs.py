"""Finished runs that are opened by name: what is read of them, and those that are removed meanwhile."""

import json
import shlex
from pathlib import Path

import pytest

from imagesets.errors import WrongInput
from orchestrator.planning.experiment import Request
from orchestrator.reading import groups, runs
from orchestrator.reading.groups import Runs, find_run
from orchestrator.reading.runs import open_run, result_files
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store, and the name of the finished run in it."""
    root = tmp_path_factory.mktemp("runs")
    return root / "store", finished_run(root / "store", write_image_set(root / "images"), "cam+none")[2].name


@pytest.fixture
def removed(finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of another run, which is removed after the store was listed."""
    store, _ = finished
    listed = [*result_files(store), store / "runs" / "removed-0" / "results.json"]
    for module in (groups, runs):
        monkeypatch.setattr(module, "result_files", lambda store: listed)
    return "removed-0"


def test_a_run_that_is_removed_while_it_is_opened_is_told(finished: tuple[Path, str], removed: str) -> None:
    for opened in (open_run, find_run):
        with pytest.raises(WrongInput, match=r"run removed-0 was removed from .* while this command read it"):
            opened(finished[0], removed)


def test_groups_are_found_beside_a_run_that_is_removed(finished: tuple[Path, str], removed: str) -> None:
    store, name = finished
    assert Runs(store).results.keys() == {name}
    assert Runs(store).group("cam+none").first["run"] == name == find_run(store, "cam+none").name
    with pytest.raises(WrongInput, match="has no finished run of 'removed'"):
        Runs(store).group("removed")


def test_an_expression_is_its_newest_run_that_has_what_is_asked_for(finished: tuple[Path, str], tmp_path: Path) -> None:
    whole = json.loads((finished[0] / "runs" / finished[1] / "results.json").read_text())
    stages = [entry for entry in whole["stages"] if entry["stage"] in ("cam-network", "cam-maps", "cam-maps-score")]
    rows = [row for row in whole["rows"] if row["quantity"] == "seed"]
    part = {**whole, "run": "cam+none-images-part-0", "finished": whole["finished"] + 1, "stages": stages, "rows": rows}
    for results in (whole, part):
        folder = tmp_path / "runs" / results["run"]
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(results))
    assert find_run(tmp_path, "cam+none").name == find_run(tmp_path, "cam+none", "seed").name == part["run"]
    assert find_run(tmp_path, "cam+none", "seg").name == find_run(tmp_path, "cam+none", "pseudo").name == whole["run"]
    assert find_run(tmp_path, "cam+none", "nosuch").name == part["run"]  # of which the message tells


def test_blanks_in_an_expression_make_no_other_run(finished: tuple[Path, str], tmp_path: Path) -> None:
    store, name = finished
    assert Request("cam + none", segmenter="x") == Request("cam+none", segmenter="x")
    assert Runs(store).group("cam + none").first["run"] == find_run(store, " cam +none").name == name
    results = json.loads((store / "runs" / name / "results.json").read_text())
    (tmp_path / "runs" / "old-0").mkdir(parents=True)
    (tmp_path / "runs" / "old-0" / "results.json").write_text(json.dumps({**results, "run": "old-0", "method": "cam + none"}))
    assert find_run(tmp_path, "cam+none").name == Runs(tmp_path).group("cam+none").first["run"] == "old-0"


def test_the_result_of_a_stage_reads_one_manifest(finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(runs, "read_manifest", lambda folder: read.append(folder) or {"digest": ""})
    folder, _ = open_run(*finished).result("deeplabv2-predictions")
    assert read == [folder]


def stored(store: Path, finished: tuple[Path, str], run: str, age: int) -> None:
    """A copy of the finished run by another name, as if made `age` seconds before."""
    results = json.loads((finished[0] / "runs" / finished[1] / "results.json").read_text())
    folder = store / "runs" / run
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({**results, "run": run, "finished": results["finished"] - age}))


def sweep_over(store: Path, *groups: str) -> None:
    """The record of a sweep whose trials are these groups."""
    (folder := store / "sweeps" / "cam+none-images-sweep").mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"trials": [{"group": group} for group in groups]}))


def test_an_expression_prefers_launches_to_trials_of_sweeps(finished: tuple[Path, str], tmp_path: Path) -> None:
    for age, name in enumerate(["trial", "both", "launch"]):
        stored(tmp_path, finished, f"cam+none-images-{name}-0", age)
    told = "cam+none stands for cam+none-images-trial, the newest of 3 launches"
    assert Runs(tmp_path).chosen("cam+none") == told
    sweep_over(tmp_path, "cam+none-images-trial", "cam+none-images-both")
    (tmp_path / "runs" / "cam+none-images-both-0" / "log.txt").touch()  # a trial that was launched too
    assert find_run(tmp_path, "cam+none").name == Runs(tmp_path).group("cam+none").first["run"] == "cam+none-images-both-0"
    told = "cam+none stands for cam+none-images-both, the newest of 2 launches; trials of sweeps come after launches"
    assert Runs(tmp_path).chosen("cam+none") == told
    assert Runs(tmp_path).chosen("cam+none-images-both-0") == Runs(tmp_path).chosen("cam+none-images-both") == ""


def test_a_launch_of_a_trial_whose_stages_are_all_cached_is_a_launch(image_set: Path, tmp_path: Path, command: Command) -> None:
    store = tmp_path / "store"
    run = finished_run(store, image_set, "cam+none")[2].name
    stored(store, (store, run), "cam+none-images-older-0", 100)
    sweep_over(store, run.rpartition("-")[0])
    assert find_run(store, "cam+none").name == "cam+none-images-older-0"
    _, shown, _ = command("reproduce", run, "--store", str(store))
    code, shown, errors = command(*shlex.split(shown.splitlines()[0])[1:], "--store", str(store), "--track", "none")
    assert code == 0 and "nothing to do" in shown, shown + errors
    assert find_run(store, "cam+none").name == run
    assert "nothing to do" in (store / "runs" / run / "log.txt").read_text()  # which the last line of the launch names


def test_a_sweep_in_place_of_a_run_is_told_with_its_trials(finished: tuple[Path, str], tmp_path: Path) -> None:
    stored(tmp_path, finished, "cam+none-images-a-0", 0)
    sweep_over(tmp_path, "cam+none-images-a", "cam+none-images-b")
    (tmp_path / "stages").mkdir()
    with pytest.raises(WrongInput, match=r"is a sweep, and not a run; its trials are cam.none-images-a, cam.none-images-b$"):
        find_run(tmp_path, "cam+none-images-sweep")
