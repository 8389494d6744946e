"""`wsss-orch clean`: shows what no run in a store needs, and removes it when asked to."""

from collections.abc import Iterable
from typing import Annotated

import typer

from orchestrator.cli import options
from orchestrator.reading.tables import table, terminal

MEGABYTE = 1e6


def clean(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is shown.")] = False,
    store: options.StoreRoot = options.STORE,
) -> None:
    """Show what no run in a store needs; --yes removes it.

    These are stages that no finished or running launch refers to, half-finished stages, failed trials of sweeps and tables,
    networks of bundles that no run started from, files of broken writes, and leftovers of Ray. Unfinished runs' stages are
    deleted too: the command that launched such a run finishes it.

    Examples:

      wsss-orch clean

      wsss-orch clean --yes --store /shared/wsss-store
    """
    from orchestrator.afterwards.cleaning import find_waste, remove  # loads psutil

    place = store.resolve()
    options.drive(context, place)  # stages that a launch on another machine is making would look unneeded here
    waste = find_waste(place)
    if not waste:
        typer.echo(f"nothing to remove in {store}")
        return
    shown = table("in the store", "why it is not needed", ">MB")
    for one in waste:
        shown.add_row(str(one.path.relative_to(place)), one.why, _megabytes([one.bytes]))
    terminal().print(shown)
    if yes:
        gone = remove(place, waste)
        typer.echo(f"removed {len(gone)} of these {len(waste)}: {_megabytes(one.bytes for one in gone)} MB")
    else:
        typer.echo(f"--yes removes these {len(waste)}: {_megabytes(one.bytes for one in waste)} MB")


def _megabytes(sizes: Iterable[int]) -> str:
    return f"{sum(sizes) / MEGABYTE:.1f}"
