"""The copy of a run's results in MLflow. The store stays the truth, and the copy can be made again at any time.

There is one experiment per image set, a parent run per launch, a child per random seed. Equal settings open their run again,
and unchanged values are not logged a second time. `orchestrator.tracking.tracking` calls this module and handles failures.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.reading.runs import current, read_results
from orchestrator.reading.summary import group_name
from orchestrator.storage.host import locked
from orchestrator.storage.place import RESULTS, place_of
from orchestrator.storage.store import Store, digest, read_json
from orchestrator.tracking import logged, origin
from orchestrator.tracking.mlflow_experiment import AT_ONCE, Experiment, Metric, Run, open_experiment

FORMAT = 3  # version of what is logged; another number delivers every run again
PARENT = "mlflow.parentRunId"  # MLflow's own
SWEEP = "wsss.sweep"  # the tag of a sweep's run
DELIVERED = "wsss.delivered"  # the tag that is set last; a run without it was delivered only in part
_thread = threading.Lock()


@dataclass(frozen=True)
class Tracked:
    """Ids of a run and its experiment in MLflow, and whether it was delivered now or before."""

    experiment: str
    run: str
    new: bool


def track_run(store: Path, run: str, uri: str) -> Tracked:
    """Copy the results of `run`, a name in the store's `runs`, to the MLflow server or database at `uri`.

    Raises WrongInput for a run of an older version, and the errors of MLflow, the database and the network.
    """
    folder = store / "runs" / run
    results = current(read_results(folder / RESULTS))
    mark = _mark(results)
    with _alone(store):
        experiment = _experiment(store, results["images"], uri)
        for known in experiment.find("wsss.run", run):
            if known.data.tags.get(DELIVERED) == mark:
                return Tracked(experiment.id, known.info.run_id, new=False)
        child = _deliver(experiment, Store(store), results, folder)
        experiment.client.set_tag(child.info.run_id, DELIVERED, mark)
        return Tracked(experiment.id, child.info.run_id, new=True)


@dataclass(frozen=True)
class Beginning:
    """A run when it begins: its name in the store, method and random seed, and the time in milliseconds."""

    run: str
    method: str
    random_seed: int
    start: int


def experiment_of(store: Path, images: str, uri: str) -> Experiment:
    """The experiment of an image set at `uri`; missing ones are made, so is a missing database."""
    with _alone(store):
        return _experiment(store, images, uri)


def begin(experiment: Experiment, store: Path, about: Beginning, title: str = "", sweep: str = "") -> list[str]:
    """Open a run, that of its launch, which `title` names, and for a trial that of its `sweep`; returns their ids in this order.

    A run that was delivered before counts as delivered only in part from now on.
    """
    with _alone(store):
        parent, child = _open(experiment, about, title or about.method)
        if DELIVERED in child.data.tags:
            experiment.client.delete_tag(child.info.run_id, DELIVERED)
        found = [child, parent]
        if sweep:
            above = experiment.open(f"sweep of {about.method}", SWEEP, sweep, about.start, {})
            experiment.client.set_tag(parent.info.run_id, PARENT, above.info.run_id)
            found.append(above)
    return [run.info.run_id for run in found]


def log_points(experiment: Experiment, run: str, points: Sequence[tuple[str, float, int, int]]) -> None:
    """Log points of curves: name, value, milliseconds and step. A point that is there already is not logged twice."""
    for first in range(0, len(points), AT_ONCE):
        experiment.client.log_batch(run, metrics=[Metric(*point) for point in points[first : first + AT_ONCE]])


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Be the only thread of this host that creates databases and runs for a store.

    Two processes that create one sqlite database at the same time crash; two that look for a run and miss it make two.
    """
    with _thread, locked(store / "mlflow.lock"):  # the file locks out other processes, but no thread of this one
        yield


def _experiment(store: Path, images: str, uri: str) -> Experiment:
    return open_experiment(uri, images, (store.resolve() / "mlflow-artifacts").as_uri())


def _open(experiment: Experiment, about: Beginning, title: str) -> tuple[Run, Run]:
    """The runs of a launch and of one of its random seeds, opened again or new."""
    parent = experiment.open(title, "wsss.launch", group_name(about.run), about.start, {"wsss.method": about.method})
    name = f"{about.method} random seed {about.random_seed}"
    return parent, experiment.open(name, "wsss.run", about.run, about.start, {PARENT: parent.info.run_id})


def _mark(results: Mapping[str, Any]) -> str:
    """A digest of the results, without the time, which a repeated launch changes."""
    content = {name: value for name, value in results.items() if name != "finished"}
    return f"{FORMAT}-{digest(json.dumps(content, sort_keys=True).encode())}"


def _deliver(experiment: Experiment, store: Store, results: Mapping[str, Any], folder: Path) -> Run:
    """Log everything of a run and of its launch; returns its run. The values of an earlier try are kept."""
    folders = logged.stage_folders(store, results)
    manifests = logged.stage_manifests(folders)
    end = int(results["finished"] * 1000)
    start = end - int(sum(manifest["wall"] for manifest in manifests.values()) * 1000)
    pictures = logged.pictures(results, folders)  # drawn first, because a server may close a waiting connection
    about = Beginning(results["run"], results["method"], results["random_seed"], start)
    parent, child = _open(experiment, about, about.method)
    source, lists = origin.source(results, manifests), list(origin.image_lists(results, manifests))
    params = logged.params(results)
    losses = [Metric(*point) for point in logged.loss_points(folders, manifests)]
    experiment.log(
        child, logged.scores(results["rows"]) | logged.system(manifests), params, logged.tags(results) | source, losses
    )
    for path in (folder / RESULTS, folder / "report.html"):
        if place_of(path).file(path).exists():
            experiment.client.log_artifact(child.info.run_id, str(path))
    for name, svg in pictures.items():
        experiment.client.log_text(child.info.run_id, svg, f"figures/{name}")
    experiment.log(parent, _summary(experiment, parent, store), params, logged.image_settings(results) | source)
    for run in (child, parent):
        experiment.log_lists(run, lists)
        experiment.client.set_terminated(run.info.run_id, end_time=end)
    return child


def _summary(experiment: Experiment, parent: Run, store: Store) -> dict[str, float]:
    """Mean and deviation over the store's runs that are children of this parent."""
    children = experiment.find(PARENT, parent.info.run_id)
    names = sorted(child.data.tags["wsss.run"] for child in children)
    found: list[Any] = [read_json(store.root / "runs" / name / RESULTS) for name in names]
    return logged.summary([results for results in found if results])
