"""The delivery of results to MLflow. A server that is down costs a run some seconds, but no results.

This module is quick to import: MLflow is loaded when results are delivered.
"""

import importlib.util
import logging
import os
import shlex
import socket
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest
from orchestrator.reading.hidden import ambiguous, hidden, hidden_uri
from orchestrator.reading.runs import result_files
from orchestrator.storage.place import RECORD

VARIABLE = "MLFLOW_TRACKING_URI"  # MLflow's own
SERVERS, DATABASES = ("http", "https"), ("sqlite", "postgresql", "mysql", "mssql")
LIMITS = {  # of MLflow's requests
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds for one request; MLflow's default is 120
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # default 7; a repeated "create this run" makes two, a repeated delivery not
    "PGCONNECT_TIMEOUT": "10",  # seconds
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # we print the address ourselves
}
# Set where this module is imported, thus before other threads compute, and never taken back: native code, such as oneDNN's, reads
# the environment without a lock, so a change at that moment ends the process without a message.
for _name, _value in {**LIMITS, "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
    os.environ.setdefault(_name, _value)  # a user's own values win


class NotDelivered(Exception):
    """MLflow did not take a run's results; the store still has them."""


NETWORK = ("requests", "urllib3", "http")  # each library has its own error for a broken connection


def check_tracking(uri: str, given: str = "--tracking-uri ") -> None:
    """Raise WrongInput, before anything runs, unless MLflow is installed and `uri` is "" or a URI that it takes.

    `given` names the option or variable of the URI.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise WrongInput("tracking needs mlflow, which is not installed; --track none runs without it")
    check_uri(uri, given)


def check_uri(uri: str, given: str = "--tracking-uri ") -> None:
    """Raise WrongInput unless `uri` is "" or a URI that MLflow takes."""
    scheme = uri.partition("://")[0].partition("+")[0]
    if uri and ("://" not in uri or scheme not in SERVERS + DATABASES):
        raise WrongInput(
            f"{given}{hidden_uri(uri)} is neither a server, such as http://mlflow.example.org:5000, "
            f"nor a database, such as sqlite:////absolute/path/mlflow.db"
        )
    if ambiguous(uri):
        raise WrongInput(f"{given}{hidden_uri(uri)} has a password with / @ ? or # in it; write these as %2F %40 %3F %23")


def database(store: Path) -> Path:
    """The store's own MLflow database."""
    return store.resolve() / "mlflow.db"


def database_uri(store: Path) -> str:
    """The URI of that database; its path may hold any characters."""
    import sqlalchemy

    uri = sqlalchemy.URL.create("sqlite", database=str(database(store))).render_as_string()
    # MLflow makes the folder of a sqlite:/// URI without decoding it: which%3Fone would be made beside which?one
    return uri.replace("sqlite:", "sqlite+pysqlite:", 1) if "%" in uri else uri


def finished_runs(store: Path, named: Sequence[str]) -> list[str]:
    """The runs with results in the store: those `named`, or all, oldest first. Raises WrongInput if there are none."""
    found = sorted(result_files(store), key=lambda path: path.stat().st_mtime)
    names = [path.parent.name for path in found]
    if not names:
        raise WrongInput(f"there is no finished run in {store}; `wsss-orch launch` makes one")
    for name in named:
        if name not in names:
            raise WrongInput(f"there is no finished run {name!r} in {store}{nearest(name, names)}")
    return list(dict.fromkeys(named)) or names


def sweeps(store: Path) -> list[str]:
    """The names of the sweeps of a store."""
    return sorted(path.parent.name for path in (store / "sweeps").glob(f"*/{RECORD}"))


def deliver(store: Path, run: str, uri: str = "") -> tuple[str, bool]:
    """Copy the results of a finished run to MLflow; returns where they are shown, and whether they are new there.

    `uri` is a server or a database, by default the store's own database. Raises WrongInput for a run of an older version, and
    NotDelivered for any failure.
    """
    try:
        from orchestrator.tracking.track import track_run

        tracked = track_run(store, run, uri or database_uri(store))
    except WrongInput:
        raise
    except Exception as error:  # no failure here may spoil hours of computing
        target = hidden_uri(uri) or database(store)
        raise NotDelivered(f"the results of {run} were not delivered to {target}: {_reason(error)}") from error
    if not uri:
        return f"{database(store)}  (wsss-orch ui --store {shlex.quote(str(store))} shows it)", tracked.new
    page = f"/#/experiments/{tracked.experiment}/runs/{tracked.run}" if uri.partition("://")[0] in SERVERS else ""
    return f"{hidden_uri(uri).rstrip('/')}{page}", tracked.new


def deliver_sweep(store: Path, sweep: str, uri: str = "") -> None:
    """Put the delivered trials of a sweep below one run in MLflow, with the sweep's page. Raises NotDelivered for any failure."""
    try:
        from orchestrator.tracking.track_sweep import track_sweep

        track_sweep(store, sweep, uri or database_uri(store))
    except Exception as error:
        target = hidden_uri(uri) or database(store)
        raise NotDelivered(f"the sweep {sweep} was not delivered to {target}: {_reason(error)}") from error


def deliver_or_say(store: Path, runs: Sequence[str], uri: str, sweep: str = "") -> str:
    """Deliver runs, and the sweep that they are trials of, if any.

    Returns one sentence: where the last run is shown, or why not and how to deliver the runs later. After one failure the
    other runs are not tried.
    """
    where = ""
    for index, run in enumerate(runs):
        try:
            where = deliver(store, run, uri)[0]
            if sweep and run == runs[-1]:
                deliver_sweep(store, sweep, uri)
        except NotDelivered as error:
            logging.info("%s", hidden("".join(traceback.format_exception(error))))  # for the log of the run, if there is one
            missing = [] if sweep or len(runs) - index > 1 else [run]  # for several runs, `track` finds the missing ones itself
            later = ["wsss-orch", "track", *missing, *(["--tracking-uri", hidden_uri(uri)] if uri else []), "--store", str(store)]
            return f"{error}; `{shlex.join(later)}` delivers them"
    return where


def _reason(error: BaseException) -> str:
    """An error in one line; if a server is not reached or breaks off an answer, the network's error."""
    causes = list(_behind(error))
    for cause in causes:
        if isinstance(cause, (ConnectionError, TimeoutError, socket.gaierror)):
            return f"the server does not answer ({hidden(str(cause))})"
    if any(type(cause).__module__.partition(".")[0] in NETWORK for cause in causes):
        return "the server does not answer (it broke off the connection)"
    return hidden(" ".join(f"{type(error).__name__}: {error}".split()))


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all its causes; urllib3 sets a cause of its own and handles the network's error at the same time."""
    if error is not None:
        yield error
        yield from _behind(error.__cause__)
        if error.__context__ is not error.__cause__:
            yield from _behind(error.__context__)
