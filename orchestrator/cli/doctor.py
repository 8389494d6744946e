"""`wsss-orch doctor`: what this machine has, and whether what a run needs works here, as one block for a bug report."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import environment
from orchestrator.cli import options
from orchestrator.storage.mirror import mirror_folder

OPTIONAL = {"ray": "--engine local runs without it", "mlflow": "--track none runs without it"}


def doctor(
    store: Annotated[Path, typer.Option(help="The store, whose disk, or bucket and mirror, is looked at and tried.")] = Path(
        "wsss-store"
    ),
    ray: Annotated[bool, typer.Option("--ray", help="Start a private Ray and run a task on it.")] = False,
) -> None:
    """Show versions, cores, memory, GPUs and disk, and try what a run needs; exit code 1 if something essential fails.

    Examples:

      wsss-orch doctor

      wsss-orch doctor --ray --store /shared/wsss-store
    """
    address = options.s3_address(store)
    place = mirror_folder(address) if address else store.resolve()
    checks: dict[str, Callable[[], str]] = {
        "wsss-orch": environment.project,
        "machine": environment.machine,
        "torch": environment.convolution,
        "torchvision": environment.backbone,
        "pydensecrf": environment.crf,
        "opencv": environment.opencv,
        "ray": partial(environment.ray_task, place) if ray else environment.ray_import,
        "mlflow": environment.tracking,
        "store": partial(environment.storage, place),
        **({"s3": partial(environment.remote_storage, address)} if address else {}),
    }
    failed = [name for name, check in checks.items() if not _works(name, check)]
    essential = [name for name in failed if name not in OPTIONAL]
    typer.echo(f"not ready: {', '.join(essential)}" if essential else "ready")
    if essential:
        raise typer.Exit(1)


def _works(name: str, check: Callable[[], str]) -> bool:
    """Print one line of the block; whether the check went well."""
    began = time.monotonic()
    try:
        line, works = f"ok      {check()} ({time.monotonic() - began:.1f} s)", True
    except Exception as error:  # a broken installation raises anything, and every other line still has to be told
        hint = f"; {OPTIONAL[name]}" if name in OPTIONAL else ""
        line, works = f"FAILED  {type(error).__name__}: {' '.join(str(error).split())}{hint}", False
    typer.echo(f"{name:12}{line}")
    return works
