"""`wsss-orch doctor`: what this machine has and whether it can run launches, as one block for a bug report."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import environment
from orchestrator.cli import options, paths
from orchestrator.reading.tables import terminal
from orchestrator.storage.bucket import mirror_folder
from orchestrator.storage.remote import Address

OPTIONAL = {"ray": "--engine local runs without it", "mlflow": "--track none runs without it"}


def doctor(
    store: Annotated[Path, paths.option(help="The store to try, with its disk or its bucket and mirror.")] = options.STORE,
    ray: Annotated[bool, typer.Option("--ray", help="Start a private Ray and run a task on it.")] = False,
    address: Annotated[str, typer.Option(help="Try every node of this running cluster instead: auto or host:port.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds in which nodes must answer.")] = 60,
) -> None:
    """Show what this machine has, and try what a run needs. The exit code is 1 if something essential fails.

    With --address, on a node of a running cluster: a task on every node reads and writes the store, and compares
    its versions with the driver's.

    Examples:

      wsss-orch doctor

      wsss-orch doctor --ray --store /shared/wsss-store

      wsss-orch doctor --address auto --store /shared/wsss-store
    """
    remote = options.s3_address(store)
    place = mirror_folder(remote) if remote else store.resolve()
    if address:
        _visit(address, place, remote, timeout)
        return
    checks: dict[str, Callable[[], str]] = {
        "wsss-orch": environment.project,
        "machine": environment.machine,
        "torch": environment.convolution,
        "bfloat16": environment.bfloat16,
        "torchvision": environment.backbone,
        "pydensecrf": environment.crf,
        "opencv": environment.opencv,
        "ray": environment.ray_task if ray else environment.ray_import,
        "mlflow": environment.tracking,
        "store": partial(environment.storage, place),
        **({"s3": partial(environment.remote_storage, remote)} if remote else {}),
    }
    failed = [name for name, check in checks.items() if not _works(name, check)]
    essential = [name for name in failed if name not in OPTIONAL]
    typer.echo(f"not ready: {', '.join(essential)}" if essential else "ready")
    if essential:
        raise typer.Exit(1)


def _visit(address: str, folder: Path, remote: Address | None, timeout: float) -> None:
    """Print the table of a cluster's nodes and their problems; exit code 1 if there is a problem."""
    from orchestrator.cluster.findings import node_table, problems
    from orchestrator.cluster.nodes import driver, visit

    nodes = visit(address, folder, remote, timeout)
    terminal().print(node_table(nodes))
    found = problems(driver(), nodes, remote.uri if remote else str(folder))
    for problem in found:
        typer.echo(problem)
    typer.echo(f"not ready: {len(found)} of the above" if found else f"ready, nodes: {len(nodes)}")
    if found:
        raise typer.Exit(1)


def _works(name: str, check: Callable[[], str]) -> bool:
    """Print one line of the block; returns whether the check succeeded."""
    began = time.monotonic()
    try:
        line, works = f"ok      {check()} ({time.monotonic() - began:.1f} s)", True
    except Exception as error:  # a broken installation can raise any error, and the other lines must still be printed
        hint = f"; {OPTIONAL[name]}" if name in OPTIONAL else ""
        line, works = f"FAILED  {type(error).__name__}: {' '.join(str(error).split())}{hint}", False
    typer.echo(f"{name:12}{line}")
    return works
