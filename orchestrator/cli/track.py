"""`wsss-orch track`: deliver finished runs to MLflow, later or to another server."""

from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.cli import options
from orchestrator.reading.tables import terminal
from orchestrator.tracking.tracking import deliver, deliver_sweep, finished_runs, sweeps


def track(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Names of runs, as in STORE/runs; all by default.")] = [],
    tracking_uri: options.TrackingUri = "",
    store: options.StoreRoot = options.STORE,
) -> None:
    """Deliver finished runs to MLflow. Runs that are there already are left alone, those of an older version are left out.

    Examples:

      wsss-orch track

      wsss-orch track --tracking-uri http://mlflow.example.org:5000

      wsss-orch track lpcam+amn-shapes-1a2b3c4d-0 --store /shared/store
    """
    options.check_tracking_uri(tracking_uri)
    console, added, left_out = terminal(), 0, 0
    chosen = finished_runs(store, runs)
    for name in chosen:
        try:
            where, new = deliver(store, name, tracking_uri)
        except WrongInput as error:
            left_out += 1
            console.print(f"{name}: left out, because {error}")
            continue
        added += new
        console.print(f"{name}: {'delivered' if new else 'already there'}, {where}")
    for sweep in [] if runs else sweeps(store):
        deliver_sweep(store, sweep, tracking_uri)
        console.print(f"{sweep}: the trials of this sweep stand below its run")
    console.print(
        f"{added} delivered, {len(chosen) - added - left_out} already there{f', {left_out} left out' if left_out else ''}"
    )
    if left_out:
        raise typer.Exit(1)
