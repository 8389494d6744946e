"""`wsss-orch ui`: MLflow's pages on a store's own database."""

import os
import socket
import sys
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.cli import options
from orchestrator.storage.store import check_store
from orchestrator.tracking.tracking import check_tracking, database, database_uri

HOST = "127.0.0.1"  # the pages ask for no password


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine; only this machine reaches it.")] = 5000,
    store: options.StoreRoot = options.STORE,
) -> None:
    """Show a store's runs in MLflow's own pages, until Ctrl-C.

    Examples:

      wsss-orch ui

      wsss-orch ui --port 5001 --store /shared/store
    """
    check_tracking("")
    path = database(store)
    if not path.is_file():
        check_store(store.resolve())
        raise WrongInput(f"there is no MLflow database in {store} yet; `wsss-orch launch` and `wsss-orch track` make it")
    _require_free(port)
    print(f"MLflow on http://{HOST}:{port}, of {path}; Ctrl-C ends it", flush=True)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # processes that these pages do not need
    os.chdir(path.parent)  # it imports from its folder; the user's may hold a folder mlflow/
    words = ["--backend-store-uri", database_uri(store), "--host", HOST, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *words])


def _require_free(port: int) -> None:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as error:
            raise WrongInput(f"port {port} of {HOST} cannot be opened ({error.strerror}); choose another with --port") from error
