"""Where results are tracked, and their delivery: a server that is down costs a run some seconds and none of its results.

Light to import: MLflow is loaded when something is delivered.
"""

import importlib.util
import logging
import os
import shlex
import socket
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest
from orchestrator.reading.hidden import ambiguous, hidden, hidden_uri
from orchestrator.reading.runs import result_files

SERVERS, DATABASES = ("http", "https"), ("sqlite", "postgresql", "mysql", "mssql")
LIMITS = {  # for our calls alone, and only where the user has not set them
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds that one request may take, 120 by default
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # 7 by default; a repeated "create this run" makes two, a repeated delivery does not
    "PGCONNECT_TIMEOUT": "10",  # seconds
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # we say where it is ourselves
}


class NotDelivered(Exception):
    """MLflow did not take a run's results, which lie in the store as before."""


NETWORK = ("requests", "urllib3", "http")  # libraries that tell a broken connection each in its own way


def check_tracking(uri: str, given: str = "--tracking-uri ") -> None:
    """Raise WrongInput, before anything runs, unless MLflow is installed and `uri` is none ("") or one that it takes.

    `given` is what the URI was given by.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise WrongInput("tracking needs mlflow, which is not installed; --track none runs without it")
    scheme = uri.partition("://")[0].partition("+")[0]
    if uri and ("://" not in uri or scheme not in SERVERS + DATABASES):
        raise WrongInput(
            f"{given}{hidden_uri(uri)} is neither a server, such as http://mlflow.example.org:5000, "
            f"nor a database, such as sqlite:////absolute/path/mlflow.db"
        )
    if ambiguous(uri):
        raise WrongInput(f"{given}{hidden_uri(uri)} has a password with / @ ? or # in it; in a URI these are %2F %40 %3F %23")


def database(store: Path) -> Path:
    """The store's own MLflow database."""
    return store.resolve() / "mlflow.db"


def database_uri(store: Path) -> str:
    """The URI of that database, whatever characters its path holds."""
    import sqlalchemy

    uri = sqlalchemy.URL.create("sqlite", database=str(database(store))).render_as_string()
    # MLflow makes the folder of a sqlite:/// as that is written, so that one called which%3Fone would lie beside which?one
    return uri.replace("sqlite:", "sqlite+pysqlite:", 1) if "%" in uri else uri


def finished_runs(store: Path, named: Sequence[str]) -> list[str]:
    """The runs in the store that have results: those `named`, or all, oldest first. Raises WrongInput where there is none."""
    found = sorted(result_files(store), key=lambda path: path.stat().st_mtime)
    names = [path.parent.name for path in found]
    if not names:
        raise WrongInput(f"there is no finished run in {store}; `wsss-orch launch` makes one")
    for name in named:
        if name not in names:
            raise WrongInput(f"there is no finished run {name!r} in {store}{nearest(name, names)}")
    return list(dict.fromkeys(named)) or names


def deliver(store: Path, run: str, uri: str = "") -> tuple[str, bool]:
    """Copy the results of a finished run to MLflow: where they are to be seen, and whether they were not there before.

    `uri` is a server's or a database's, by default the store's own database. Raises NotDelivered for every reason there may be.
    """
    try:
        with _bounded():
            from orchestrator.tracking.track import track_run

            tracked = track_run(store, run, uri or database_uri(store))
    except Exception as error:  # whatever it is, hours of computing must not end in it
        target = hidden_uri(uri) or database(store)
        raise NotDelivered(f"the results of {run} were not delivered to {target}: {_reason(error)}") from error
    if not uri:
        return f"{database(store)}  (wsss-orch ui --store {shlex.quote(str(store))} shows it)", tracked.new
    page = f"/#/experiments/{tracked.experiment}/runs/{tracked.run}" if uri.partition("://")[0] in SERVERS else ""
    return f"{hidden_uri(uri).rstrip('/')}{page}", tracked.new


def deliver_or_say(store: Path, runs: Sequence[str], uri: str = "") -> str:
    """What a command says of tracking its runs: where the last one is to be seen, or why not and how to deliver them later.

    A server that does not take one run is not asked for the next.
    """
    where = ""
    for index, run in enumerate(runs):
        try:
            where = deliver(store, run, uri)[0]
        except NotDelivered as error:
            logging.info("%s", hidden("".join(traceback.format_exception(error))))  # for the run's log, where a launch has one
            missing = [] if len(runs) - index > 1 else [run]  # of several `track` finds by itself which are missing
            later = ["wsss-orch", "track", *missing, *(["--tracking-uri", hidden_uri(uri)] if uri else []), "--store", str(store)]
            return f"{error}; `{shlex.join(later)}` delivers them"
    return where


@contextmanager
def _bounded() -> Iterator[None]:
    """MLflow's requests give up soon while the block runs."""
    ours = {name: value for name, value in LIMITS.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _reason(error: BaseException) -> str:
    """An error in one line; of a server that cannot be reached, or breaks an answer off, what the network said."""
    causes = list(_behind(error))
    for cause in causes:
        if isinstance(cause, (ConnectionError, TimeoutError, socket.gaierror)):
            return f"the server does not answer ({hidden(str(cause))})"
    if any(type(cause).__module__.partition(".")[0] in NETWORK for cause in causes):
        return "the server does not answer (it broke off the connection)"
    return hidden(" ".join(f"{type(error).__name__}: {error}".split()))


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it: urllib3 gives a cause of its own beside the network's error that it was handling."""
    if error is not None:
        yield error
        yield from _behind(error.__cause__)
        if error.__context__ is not error.__cause__:
            yield from _behind(error.__context__)
