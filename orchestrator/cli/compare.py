"""`wsss-orch compare`: finished runs beside one another."""

from pathlib import Path
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.comparison import compare as compared
from orchestrator.formats import WRITERS, terminal_table, write
from orchestrator.runs import Runs
from orchestrator.tables import terminal


def compare(
    names: Annotated[list[str], typer.Argument(help="Runs, launches (a run without its random seed) or method expressions.")],
    to: Annotated[list[Path], typer.Option(help="A file to write as well: .html, .md, .tex or .csv; may be repeated.")] = [],  # noqa: B006 (typer's way)
    store: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("wsss-store"),
) -> None:
    """Compare finished runs: mean and deviation, paired differences to the first, published figures, differing protocols.

    A method expression stands for its newest runs. The page (.html) has figures and an image browser too.

    Examples:

      wsss-orch compare cam+irn recam+irn lpcam+irn

      wsss-orch compare cam+irn lpcam+irn --to comparison.html --to table.tex
    """
    unknown = [path for path in to if path.suffix not in (*WRITERS, ".html")]
    if unknown:
        raise WrongInput(f"--to {unknown[0]} must end in one of {', '.join([*WRITERS, '.html'])}")
    runs = Runs(store.resolve())
    comparison = compared([runs.group(name) for name in names])
    console = terminal()
    console.print(terminal_table(comparison))
    for warning in comparison.warnings:
        console.print(f"note: {warning}", markup=False)
    for path in to:
        if path.suffix == ".html":
            from orchestrator.comparison_page import write_page  # loads torch and matplotlib

            write_page(comparison, runs.store, path)
        else:
            write(comparison, path)
        console.print(f"written  {path}")
