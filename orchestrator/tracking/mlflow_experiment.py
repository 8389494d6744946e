"""An experiment in MLflow whose runs are found by a tag, so nothing is logged twice."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from orchestrator.tracking.origin import ImageList

AT_ONCE = 100  # params, tags and metrics that MLflow takes in one request


def open_client(uri: str) -> MlflowClient:
    """A client of the tracking server or database at `uri`; creates a missing database without output."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not is_server(uri):
        engine = sqlalchemy.create_engine(uri)
        engine.connect().close()  # fails at once; MLflow would try for 100 seconds
        engine.dispose()
    return MlflowClient(tracking_uri=uri)


def is_server(uri: str) -> bool:
    """Whether `uri` is a server (which decides where artifacts go) and not a database."""
    return uri.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Experiment:
    """The runs of one experiment; use `open_experiment`."""

    client: MlflowClient
    id: str

    def find(self, tag: str, value: str) -> list[Run]:
        """The runs whose `tag` is `value`."""
        quoted = value.replace("'", "''")
        return list(self.client.search_runs([self.id], filter_string=f"tags.`{tag}` = '{quoted}'"))

    def open(self, name: str, tag: str, value: str, start: int, tags: Mapping[str, str]) -> Run:
        """Open the run whose `tag` is `value` again, or a new one with `tags` that began at `start` (milliseconds)."""
        found = self.find(tag, value)
        if not found:
            return self.client.create_run(self.id, start_time=start, run_name=name, tags={tag: value, **tags})
        self.client.update_run(found[0].info.run_id, status="RUNNING")
        return found[0]

    def log(
        self,
        run: Run,
        values: Mapping[str, float],
        params: Mapping[str, str],
        tags: Mapping[str, str],
        points: Sequence[Metric] = (),
    ) -> None:
        """Log new `values`, `points` of curves, params and tags, in as many requests as needed."""
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in values.items() if run.data.metrics.get(name) != value]
        metrics += points
        settings = [Param(name, value) for name, value in params.items()]
        marks = [RunTag(name, value) for name, value in tags.items()]
        for begin in range(0, max(len(metrics), len(settings), len(marks)), AT_ONCE):
            part = slice(begin, begin + AT_ONCE)
            self.client.log_batch(run.info.run_id, metrics=metrics[part], params=settings[part], tags=marks[part])

    def log_lists(self, run: Run, lists: Sequence[ImageList]) -> None:
        """Log the image lists of a run; logged ones stay."""
        self.client.log_inputs(
            run.info.run_id,
            [
                DatasetInput(
                    Dataset(each.name, each.digest, source_type="local", source=each.source, profile=each.profile),
                    [InputTag(MLFLOW_DATASET_CONTEXT, each.context)],
                )
                for each in lists
            ],
        )


def open_experiment(uri: str, name: str, artifacts: str) -> Experiment:
    """The experiment called `name`; a missing one is made.

    `artifacts` is the URI of the folder for artifacts of a database; the UI would look for a relative one below its own folder.
    """
    client = open_client(uri)
    if known := client.get_experiment_by_name(name):
        return Experiment(client, known.experiment_id)
    return Experiment(client, client.create_experiment(name, artifact_location=None if is_server(uri) else artifacts))
