"""`wsss-orch reproduce`: the command that makes a run again, and what differs on this machine."""

from typing import Annotated

import typer

from orchestrator.cli import complete, options


def reproduce(
    run: Annotated[
        str,
        typer.Argument(
            help="A finished run: a folder of STORE/runs, or a method expression for the newest run of it.",
            autocompletion=complete.runs,
        ),
    ],
    store: options.StoreRoot = options.STORE,
) -> None:
    """Print the command that makes a run again. Also shows what the run was made with, and what differs on this machine.

    In the same store the command finds all results; with another --store it computes everything again.

    Examples:

      wsss-orch reproduce lpcam+amn-shapes-1a2b3c4d-0

      wsss-orch reproduce lpcam+amn-shapes-1a2b3c4d-0 --store /shared/wsss-store
    """
    from orchestrator.afterwards.command import command_line, request_of
    from orchestrator.afterwards.reproduce import compared  # loads torch
    from orchestrator.reading.groups import find_run

    opened = find_run(store.resolve(), run)
    request = request_of(opened)
    typer.echo(command_line(request))
    lines = list(compared(opened, request))
    for line in lines:
        typer.echo(line)
    differing = sum(bool(line.here) for line in lines)
    typer.echo(f"{differing} of {len(lines)} lines differ or are unknown here" if differing else "nothing differs here")
