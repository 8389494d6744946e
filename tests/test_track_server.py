"""Tracking on real servers: delivered over HTTP, read back, delivered once; a server that dies costs nothing."""

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.pages.report import write_report
from orchestrator.storage.store import read_json
from orchestrator.tracking.logged import scores
from tests.conftest import write_image_set
from tests.finished_run import finished_run
from tests.mlflow_servers import answers, free_port, mlflow_server, postgresql, process, wait_until

pytestmark = pytest.mark.slow
mlflow = pytest.importorskip("mlflow")
WSSS = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """More patience: a server on busy cores may answer late. A dead server refuses at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the runs of two random seeds; its images lie beside it."""
    images = write_image_set(tmp_path / "images")
    for random_seed in (0, 1):
        write_report(*finished_run(tmp_path / "store", images, "cam+none", random_seed=random_seed))
    return tmp_path / "store"


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URI of the database behind the server."""
    if request.param == "postgresql":
        with postgresql(tmp_path / "postgresql.log") as uri:
            yield uri
    else:
        yield f"sqlite:///{tmp_path / 'server.db'}"


def wsss(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `wsss-orch` as a shell does."""
    return subprocess.run([*WSSS, *map(str, words)], capture_output=True, text=True, cwd=ROOT, timeout=600)


def said(*words: object) -> str:
    """The output of a command that must succeed without output on stderr."""
    done = wsss(*words)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    return done.stdout


def launch(store: Path, random_seed: int, uri: str) -> str:
    """The message on tracking of a launch whose run is in the store."""
    images = f"folder:{store.with_name('images')}"
    words = ("--method", "cam+none", "--images", images, "--segmenter", "deeplabv2-small", "--random-seed", random_seed)
    shown = said("launch", *words, "--store", store, "--tracking-uri", uri)
    return next(line for line in shown.splitlines() if line.startswith("mlflow"))


def results_of(store: Path, random_seed: int) -> dict[str, Any]:
    (folder,) = (store / "runs").glob(f"*-{random_seed}")
    found = read_json(folder / "results.json")
    assert found is not None
    return found


def content(client: Any) -> dict[str, Any]:
    """Everything on the server that a second delivery could double: runs, tags, params and metrics' histories."""
    experiment = client.get_experiment_by_name("images")
    return {
        run.info.run_id: (
            run.data.tags,
            run.data.params,
            {name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics},
        )
        for run in client.search_runs([experiment.experiment_id])
    }


def test_a_run_is_delivered_over_http_once_also_by_way_of_a_dead_server(backend: str, store: Path, tmp_path: Path) -> None:
    port = free_port()
    with mlflow_server(backend, tmp_path, port) as uri:
        client = mlflow.MlflowClient(tracking_uri=uri)
        page = re.fullmatch(r"mlflow +(\S+)/#/experiments/\d+/runs/(\w+)", launch(store, 0, uri))
        assert page and page[1] == uri
        child, results = client.get_run(page[2]), results_of(store, 0)
        expected = scores(results["rows"])
        assert expected and {name: child.data.metrics[name] for name in expected} == expected
        read_back = client.download_artifacts(page[2], "results.json", str(tmp_path))
        assert json.loads(Path(read_back).read_text())["rows"] == results["rows"]
        assert {file.path for file in client.list_artifacts(page[2], "figures")} >= {"figures/threshold-seed.svg"}
        before = content(client)
        launch(store, 0, uri)
        assert content(client) == before and len(before) == 2  # the launch and its random seed
    line = launch(store, 1, uri)
    assert "not delivered" in line and "does not answer" in line
    with mlflow_server(backend, tmp_path, port):
        command = re.search(r"`wsss-orch (.*)` delivers them", line)
        assert command and said(*command[1].split()).endswith("1 delivered, 0 already there\n")
        assert said("track", "--store", store, "--tracking-uri", uri).endswith("0 delivered, 2 already there\n")
        parent = client.get_run(child.data.tags["mlflow.parentRunId"])
        assert parent.data.metrics["runs"] == 2 and len(content(client)) == 3


def test_what_broke_off_when_the_server_died_is_completed_by_the_next_delivery(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.tracking import track
    from orchestrator.tracking.tracking import NotDelivered, deliver

    port, run = free_port(), results_of(store, 0)["run"]
    with contextlib.ExitStack() as alive:
        uri = alive.enter_context(mlflow_server(f"sqlite:///{tmp_path / 'server.db'}", tmp_path, port))
        summary = track._summary
        monkeypatch.setattr(track, "_summary", lambda *given: (alive.close(), summary(*given)))  # the server dies in the middle
        with pytest.raises(NotDelivered, match="does not answer"):
            deliver(store, run, uri)
    monkeypatch.undo()
    with mlflow_server(f"sqlite:///{tmp_path / 'server.db'}", tmp_path, port):
        client = mlflow.MlflowClient(tracking_uri=uri)
        half = content(client)
        assert len(half) == 2 and not any("wsss.delivered" in tags for tags, _, _ in half.values())
        assert deliver(store, run, uri)[1] and not deliver(store, run, uri)[1]
        whole = content(client)
        assert {id: metrics for id, (_, _, metrics) in whole.items()} == {id: metrics for id, (_, _, metrics) in half.items()}
        assert all(run.info.status == "FINISHED" for run in client.search_runs(["1"]))


def test_a_database_may_be_named_without_a_server_and_be_dead_too(store: Path, tmp_path: Path) -> None:
    with postgresql(tmp_path / "postgresql.log") as uri:
        assert said("track", "--store", store, "--tracking-uri", uri).endswith("2 delivered, 0 already there\n")
        assert said("track", "--store", store, "--tracking-uri", uri).endswith("0 delivered, 2 already there\n")
    done = wsss("track", "--store", store, "--tracking-uri", uri)
    assert done.returncode == 1 and "Connection refused" in done.stderr and done.stderr.count("\n") == 1


def test_ui_shows_the_stores_runs_on_loopback_from_any_folder(store: Path, tmp_path: Path) -> None:
    said("track", "--store", store)
    port, log, here = free_port(), tmp_path / "ui.log", tmp_path / "here"
    (here / "mlflow").mkdir(parents=True)
    (here / "mlflow" / "__init__.py").write_text("raise RuntimeError('a folder of the user was imported')\n")
    before = {path.name for path in store.iterdir()}
    words = [sys.executable, "-P", *WSSS[1:], "ui", "--store", store, "--port", port]
    with process(words, log, cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)}) as shown:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), shown, log)
        assert f"MLflow on http://127.0.0.1:{port}, of {store / 'mlflow.db'}" in log.read_text()
        client = mlflow.MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
        (experiment,) = (each for each in client.search_experiments() if each.name == "images")
        runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment.experiment_id])}
        assert runs.keys() == {"cam+none", "cam+none random seed 0", "cam+none random seed 1"}
        page = f"http://127.0.0.1:{port}/get-artifact?path=report.html&run_uuid={runs['cam+none random seed 0']}"
        with urllib.request.urlopen(page, timeout=60) as report:
            assert b"cam+none" in report.read()
    assert {path.name for path in store.iterdir()} == before and [path.name for path in here.iterdir()] == ["mlflow"]
