"""`wsss-orch report`: the page of finished runs or of a sweep."""

from pathlib import Path
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.cli import complete, options, paths
from orchestrator.pages import SAMPLES
from orchestrator.reading.tables import terminal
from orchestrator.storage.store import digest

LONGEST = 200  # bytes of a page's name; that of a file has at most 255, and more characters while it is written


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
    path = to or root / "reports" / page_of(names)
    if path.suffix != ".html":
        raise WrongInput(f"--to {path} must end in .html")
    from orchestrator.pages import comparison_page, sweep_page
    from orchestrator.reading.groups import Runs
    from orchestrator.sweeps.sweep_results import compared, findings, read_sweep

    runs = Runs(root)
    record = read_sweep(root, names[0]) if len(names) == 1 else None
    if record:
        sweep_page.write_page(findings(runs, record), path)
    else:
        if missing := comparison_page.write_page(compared(runs, names), root, path, samples):
            terminal().print(f"note: {missing}")
    terminal().print(f"written  {path}")


def page_of(names: list[str]) -> str:
    """The name of the page on these runs."""
    joined = "-".join(names)
    if len(joined.encode()) > LONGEST:
        joined = f"{names[0]}-and-{len(names) - 1}-others-{digest(joined.encode())[:8]}"
    return f"{joined}.html"
