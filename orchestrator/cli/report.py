"""`wsss-orch report`: the page of finished runs or of a sweep."""

from pathlib import Path
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.cli import complete, options, paths
from orchestrator.pages import SAMPLES
from orchestrator.reading.tables import terminal
from orchestrator.storage.store import digest

MOST_BYTES = 200  # of a page's name


def report(
    names: Annotated[
        list[str], typer.Argument(help="As for `compare`; one sweep alone gets a page of its own.", autocompletion=complete.runs)
    ],
    to: Annotated[
        Path | None, paths.option(parser=paths.file, help="The .html file; <store>/reports/<names>.html by default.")
    ] = None,
    samples: options.Samples = SAMPLES,
    store: options.StoreRoot = options.STORE,
) -> None:
    """Write an HTML page on finished runs. It has sortable tables, figures, and the same images across methods.

    Every launch also writes a page of its run (<store>/runs/<run>/report.html), with its stages and settings.

    Examples:

      wsss-orch report lpcam+irn

      wsss-orch report cam+irn lpcam+irn --to page.html --samples 200
    """
    root = store.resolve()
    path = to or root / "reports" / f"{name_of(names)}.html"
    if path.suffix != ".html":
        raise WrongInput(f"--to {path} must end in .html")
    from orchestrator.pages import comparison_page, sweep_page
    from orchestrator.reading.groups import Runs
    from orchestrator.sweeps.sweep_results import compared, findings, read_sweep

    runs = Runs(root)
    if len(names) == 1 and (record := read_sweep(root, names[0])):
        sweep_page.write_page(findings(runs, record), path)
    elif missing := comparison_page.write_page(compared(runs, names), root, path, samples):
        terminal().print(f"note: {missing}")
    terminal().print(f"written  {path}")


def name_of(names: list[str]) -> str:
    """The name of the page of some runs; that of many ends in a digest, because names of files have 255 bytes at most."""
    joined = "-".join(names).encode()
    return joined.decode() if len(joined) <= MOST_BYTES else f"{joined[:MOST_BYTES].decode(errors='ignore')}-{digest(joined)[:8]}"
