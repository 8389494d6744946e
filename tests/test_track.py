"""What MLflow shows of a run is what its results say, once."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.launch import Prepared
from orchestrator.report import write_report
from orchestrator.store import write_json
from tests.conftest import write_image_set
from tests.finished_run import finished_run

mlflow = pytest.importorskip("mlflow")
from orchestrator.track import row_names, scores, track_run  # noqa: E402 (needs MLflow)

Finished = tuple[Prepared, dict[str, Any], Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("track")
    run = finished_run(root / "store", write_image_set(root / "images", train=12))
    write_report(*run)
    return run


@pytest.fixture(scope="module")
def tracked(finished: Finished) -> tuple[Any, str]:
    """A client of what was tracked, and what was said about it."""
    store = finished[0].request.store
    said = track_run(store, finished[1], finished[2])
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}"), said


def runs(client: Any, tag: str, value: str) -> list[Any]:
    experiment = client.get_experiment_by_name("folder")
    return client.search_runs([experiment.experiment_id], filter_string=f"tags.`{tag}` = '{value}'")


def test_the_answer_names_the_database_and_the_command_that_shows_it(tracked: tuple[Any, str], finished: Finished) -> None:
    uri = f"sqlite:///{finished[0].request.store / 'mlflow.db'}"
    assert tracked[1].startswith(uri) and f"mlflow ui --backend-store-uri {uri}" in tracked[1]


def test_a_random_seed_is_a_child_of_its_launch(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    parent = tracked[0].get_run(child.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "lpcam+amn" and parent.data.tags["wsss.launch"] + "-0" == finished[1]["run"]
    assert child.info.status == parent.info.status == "FINISHED"


def test_scores_carry_their_split_and_an_earlier_seed_its_component(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    seed, last_seed, pseudo, seg = finished[1]["rows"]
    expected = {
        "seed.lpcam.miou/train": seed["metrics"]["miou"],
        "seed.lpcam.oracle_miou/train": seed["oracle"]["miou"],
        "seed.miou/train": last_seed["metrics"]["miou"],
        "seed.threshold/train": last_seed["protocol"]["threshold"],
        "pseudo.precision/train": pseudo["metrics"]["precision"],
        "seg.recall/val": seg["metrics"]["recall"],
    }
    assert {name: child.data.metrics[name] for name in expected} == expected


def test_settings_keys_and_protocols_are_there(tracked: tuple[Any, str], finished: Finished) -> None:
    prepared, results, _ = finished
    (child,) = runs(tracked[0], "wsss.run", results["run"])
    assert child.data.params["lpcam.clusters"] == str(results["settings"]["lpcam.clusters"])
    assert child.data.params["crf.parameters"] == "irn-labels"
    assert {child.data.tags[f"stage.{step.stage.name}"] for step in prepared.steps} == {step.key for step in prepared.steps}
    assert json.loads(child.data.tags["protocol.seg"]) == results["rows"][-1]["protocol"]


def test_losses_are_there_for_every_epoch(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    history = tracked[0].get_metric_history(child.info.run_id, "loss.amn-network.classification")
    assert [point.step for point in history] == list(range(1, 9))


def test_report_results_and_all_settings_are_artifacts(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    assert {file.path for file in tracked[0].list_artifacts(child.info.run_id)} == {
        "report.html",
        "results.json",
        "settings.json",
    }
    folder = finished[0].request.store / "mlflow-artifacts"
    assert child.info.artifact_uri.startswith(str(folder))
    assert json.loads(next(folder.rglob("settings.json")).read_text()) == finished[1]["settings"]


def test_the_same_run_again_adds_nothing_and_a_new_score_replaces_the_old(tracked: tuple[Any, str], finished: Finished) -> None:
    client, (prepared, results, folder) = tracked[0], finished
    (before,) = runs(client, "wsss.run", results["run"])
    track_run(prepared.request.store, results, folder)
    (again,) = runs(client, "wsss.run", results["run"])
    assert again.info.run_id == before.info.run_id and again.data.metrics == before.data.metrics
    for name in ("seed.miou/train", "loss.amn-network.classification"):
        assert len(client.get_metric_history(again.info.run_id, name)) == (1 if name.startswith("seed") else 8)
    changed = copy.deepcopy(results)
    changed["rows"][-1]["metrics"]["miou"] = 0.123
    track_run(prepared.request.store, changed, folder)
    (after,) = runs(client, "wsss.run", results["run"])
    assert after.data.metrics == {**before.data.metrics, "seg.miou/val": 0.123}


def test_another_random_seed_joins_its_launch(tracked: tuple[Any, str], finished: Finished) -> None:
    request = finished[0].request
    _, results, folder = finished_run(request.store, Path(request.images.partition(":")[2]), random_seed=1)
    track_run(request.store, results, folder)
    (first,), (second,) = (runs(tracked[0], "wsss.run", run) for run in (finished[1]["run"], results["run"]))
    assert first.info.run_id != second.info.run_id
    assert first.data.tags["mlflow.parentRunId"] == second.data.tags["mlflow.parentRunId"]


def test_names_that_mlflow_refuses_are_rewritten() -> None:
    row = {"quantity": "seg", "component": "deeplabv2", "split": "val@home", "metrics": {"miou": 0.5, "fp": None}, "protocol": {}}
    assert scores([row]) == {"seg.miou/val_home": 0.5}
    assert row_names([row, row]) == ["seg.deeplabv2", "seg"]


@pytest.mark.slow
def test_two_launches_may_create_the_database_at_once_and_say_nothing(finished: Finished, tmp_path: Path) -> None:
    _, results, folder = finished
    write_json(tmp_path / "results.json", {**results, "stages": []})
    program = (
        "import json, sys; from pathlib import Path; from orchestrator.track import track_run\n"
        f"results = json.loads(Path({str(tmp_path / 'results.json')!r}).read_text())\n"
        f"track_run(Path({str(tmp_path)!r}), {{**results, 'run': sys.argv[1]}}, Path({str(folder)!r}))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, f"run-{number}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for number in range(3)
    ]
    said = [process.communicate()[0] for process in started]
    assert said == [b""] * 3 and [process.returncode for process in started] == [0] * 3
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert all(len(runs(client, "wsss.run", f"run-{number}")) == 1 for number in range(3))
