"""`wsss-orch status`: what runs in a store, or the jobs that `submit` has sent to a cluster."""

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.reading.runs import result_files
from orchestrator.reading.tables import duration, fitting, table, terminal
from orchestrator.storage.store import check_store

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails

    from orchestrator.reading.running import Doing, Launched


def status(
    address: Annotated[
        str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Dashboard of a cluster: show its jobs instead.")
    ] = "",
    store: options.StoreRoot = options.STORE,
) -> None:
    """Show what runs in a store and how far it is. A run that was stopped or has failed is listed until its command finishes it.

    With --address it shows a cluster's jobs, which `submit` has sent, and how much of the cluster is in use.

    Examples:

      wsss-orch status

      wsss-orch status --store /shared/store

      wsss-orch status --address http://head.example.org:8265
    """
    if address:
        _show_jobs(address)
    else:
        _show_store(store)


def _show_store(store: Path) -> None:
    """Print the runs of a store that have no results yet."""
    from orchestrator.reading.running import unfinished  # loads numpy

    check_store(store)
    console, found = terminal(), list(unfinished(store))
    columns = ("run", "now", "how far", ">left", ">stages", ">all left", "since", "where")
    rows = [row for one in found for row in _rows(one)]
    if found:
        console.print(fitting(columns, rows, columns[4:], console.width))
    for one in found:
        if one.failure:
            console.print(f"{one.run} failed: {one.failure}")
    if any(one.state != "running" for one in found):
        console.print("the command that launched a run continues it")
    console.print(f"{sum(one.state == 'running' for one in found)} running in {store}; {len(result_files(store))} finished runs")


def _rows(one: "Launched") -> list[list[str]]:
    """A row for each stage that a run makes at this moment, at least one."""
    since = time.strftime("%d %b %H:%M", time.localtime(one.began))
    about = [f"{one.made}/{one.stages}", _seconds(one.left), since, one.where]
    first, *others = [[doing.stage, _far(doing), _seconds(doing.left)] for doing in one.doing] or [[one.state, "", ""]]
    return [[one.run, *first, *about], *(["", *other, *[""] * len(about)] for other in others)]


def _far(doing: "Doing") -> str:
    return f"{doing.done}/{doing.total} {doing.unit}" if doing.total else "begins"


def _seconds(value: float | None) -> str:
    return "" if value is None else duration(value)


def _show_jobs(address: str) -> None:
    """Print a cluster's jobs and how much of it is in use."""
    from orchestrator.cluster.jobs import COMMAND, answered, connect, submitted, usage

    client, console = connect(address), terminal()
    with answered(client.get_address()):
        jobs, used = submitted(client), usage(client)
    made = table("job", "state", "since", ">took", "what", "message")
    for job in jobs:
        began, ended = job.start_time or 0, job.end_time or 1000 * time.time()
        since = time.strftime("%d %b %H:%M", time.localtime(began / 1000))
        took = timedelta(seconds=int((ended - began) / 1000))
        made.add_row(str(job.submission_id), job.status.value, since, str(took), (job.metadata or {})[COMMAND], _told(job))
    if jobs:
        console.print(made)
    else:
        console.print("no job was submitted to this cluster")
    console.print(used)


def _told(job: "JobDetails") -> str:
    """One line about a job; for a failed job, the error at the end of its log."""
    lines = [line for line in (job.message or "").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return next(iter(errors[-1:] or lines), "") if job.status.value in ("FAILED", "PENDING") else ""
