"""A copy of a run's results in MLflow. The store stays the truth: this can be made again from it at any time.

One experiment per image set, a parent run per launch, a child per random seed. Equal settings re-open their run: what has
not changed is not logged a second time.
"""

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from orchestrator.store import Store, read_json, read_manifest, write_json
from orchestrator.used_settings import used_settings

PARAM_LENGTH = 6000  # MLflow cuts longer values off; such a setting is in settings.json alone
TAG_LENGTH = 8000
AT_ONCE = 100  # params, tags and metrics that MLflow takes in one request


def track_run(store: Path, results: Mapping[str, Any], folder: Path, uri: str = "") -> str:
    """Copy `results` (see `orchestrator.results`) and the report in `folder` to MLflow.

    `uri` is a tracking server's, by default the store's sqlite file. Returns the tracking URI with the command that shows it.
    """
    target = uri or f"sqlite:///{store.resolve() / 'mlflow.db'}"
    with _locked(store / "mlflow.lock"):  # two processes that create one sqlite database at once crash each other
        client = open_client(target)
        experiment = _experiment(client, results["images"], "" if uri else str(store.resolve() / "mlflow-artifacts"))
        launch = results["run"].rpartition("-")[0]  # the run's name without its random seed
        parent = _open(client, experiment, "wsss.launch", launch, results["method"], {})
        name = f"{results['method']} random seed {results['random_seed']}"
        child = _open(client, experiment, "wsss.run", results["run"], name, {"mlflow.parentRunId": parent.info.run_id})
        _log(client, child, Store(store), results, folder)
        for run in (child, parent):
            client.set_terminated(run.info.run_id)
    return f"{target}  (mlflow ui --backend-store-uri {target})"


def open_client(uri: str) -> MlflowClient:
    """A client of the tracking server or database at `uri`; creates the database, silently, where there is none."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # released when the file is closed
        yield


def _experiment(client: MlflowClient, name: str, artifacts: str) -> str:
    """The id of an image set's experiment; its artifact folder is absolute, or the UI would look below where it was started."""
    known = client.get_experiment_by_name(name)
    return known.experiment_id if known else client.create_experiment(name, artifact_location=artifacts or None)


def _open(client: MlflowClient, experiment: str, tag: str, value: str, name: str, tags: Mapping[str, str]) -> Run:
    """The run whose `tag` is `value`, re-opened, or a new one."""
    quoted = value.replace("'", "''")
    found = client.search_runs([experiment], filter_string=f"tags.`{tag}` = '{quoted}'", max_results=1)
    if not found:
        return client.create_run(experiment, run_name=name, tags={tag: value, **tags})
    client.update_run(found[0].info.run_id, status="RUNNING")
    return found[0]


def _log(client: MlflowClient, run: Run, store: Store, results: Mapping[str, Any], folder: Path) -> None:
    stages = {stage["stage"]: store.folder(stage["stage"], stage["key"]) for stage in results["stages"]}
    manifests = {name: manifest for name, path in stages.items() if (manifest := read_manifest(path))}
    used = used_settings(results["settings"], {manifest["component"] for manifest in manifests.values()})
    params = [Param(name, str(value)) for name, value in used.items() if len(str(value)) <= PARAM_LENGTH]
    tags = [RunTag(name, value[:TAG_LENGTH]) for name, value in _tags(results).items()]
    figures = scores(results["rows"]) | _times(manifests)
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in figures.items() if run.data.metrics.get(name) != value]
    metrics += [metric for name, manifest in manifests.items() for metric in _losses(name, stages[name], manifest["finished"])]
    for start in range(0, max(len(params), len(tags), len(metrics)), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        client.log_batch(run.info.run_id, metrics=metrics[part], params=params[part], tags=tags[part])
    write_json(folder / "settings.json", results["settings"])
    for name in ("settings.json", "results.json", "report.html"):
        if (folder / name).exists():
            client.log_artifact(run.info.run_id, str(folder / name))


def scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics by name: `seed.miou/train`, and `seed.cam.miou/train` where a later component's seed is the last."""
    found = {}
    for name, row in zip(row_names(rows), rows, strict=True):
        oracle = {f"oracle_{key}": value for key, value in row.get("oracle", {}).items()}
        threshold = {key: row["protocol"][key] for key in ("threshold",) if key in row["protocol"]}
        for key, value in {**row["metrics"], **threshold, **oracle}.items():
            if value is not None:
                found[_allowed(f"{name}.{key}/{row['split']}")] = float(value)
    return found


def row_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`seed`, `pseudo` and `seg` for the last row of each quantity, `seed.cam` and so on for the others."""
    last = {row["quantity"]: index for index, row in enumerate(rows)}
    names = (
        row["quantity"] if last[row["quantity"]] == index else f"{row['quantity']}.{row['component']}"
        for index, row in enumerate(rows)
    )
    return list(names)


def _times(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Wall and CPU seconds of each stage."""
    return {_allowed(f"{key}_seconds.{name}"): manifest[key] for name, manifest in manifests.items() for key in ("wall", "cpu")}


def _losses(stage: str, folder: Path, finished: float) -> list[Metric]:
    """A training's mean losses per epoch; at the time the stage finished, so that MLflow knows them again."""
    history: Any = read_json(folder / "history.json") or []
    return [
        Metric(_allowed(f"loss.{stage}.{name}"), value, int(finished * 1000), epoch["epoch"])
        for epoch in history
        for name, value in epoch.items()
        if name != "epoch"
    ]


def _tags(results: Mapping[str, Any]) -> dict[str, str]:
    rows = results["rows"]
    return {
        "wsss.method": results["method"],
        "wsss.random_seed": str(results["random_seed"]),
        **{_allowed(f"stage.{stage['stage']}"): stage["key"] for stage in results["stages"]},
        **{_allowed(f"protocol.{name}"): json.dumps(row["protocol"]) for name, row in zip(row_names(rows), rows, strict=True)},
    }


def _allowed(name: str) -> str:
    """`name` in the characters that MLflow takes in names: a list or class may be called anything."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
