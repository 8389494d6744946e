"""`wsss-orch compare`: finished runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.cli import complete, options, paths
from orchestrator.cli.options import PLOT_ENDINGS
from orchestrator.pages import SAMPLES
from orchestrator.planning import scores
from orchestrator.reading.tables import terminal


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Runs, launches (a run without its random seed), method expressions, or sweeps.", autocompletion=complete.runs
        ),
    ],
    to: options.Files = [],
    plot: Annotated[
        str,
        typer.Option(
            help="Draw this plot into NAME.svg, or the .svg or .png of --to. jf: mIoU (J) over contour quality (F), with arrows "
            "from each method to the same with add-ons."
        ),
    ] = "",
    files: Annotated[
        list[Path],
        paths.option(
            "--with", help="A CSV of results that were measured elsewhere or published (see results/README.md); may be repeated."
        ),
    ] = [],
    samples: options.Samples = SAMPLES,
    store: options.StoreRoot = options.STORE,
) -> None:
    """Compare finished runs. Shows means and deviations, paired differences to the first, published figures and protocols.

    A method expression stands for its newest launch, a sweep for its trials. The page (.html) has figures and an image browser.

    Examples:

      wsss-orch compare cam+irn recam+irn lpcam+irn

      wsss-orch compare cam+irn lpcam+irn --to comparison.html --to table.tex

      wsss-orch compare cam+irn cam+isl+fsl+irn --plot jf

      wsss-orch compare cam+irn lpcam+irn --with results/shapes.csv
    """
    if plot and not any(path.suffix in PLOT_ENDINGS for path in to):
        to = [*to, Path(f"{plot}.svg")]
    options.check_endings(to)
    if plot and plot not in (known := scores.plot_names()):
        raise WrongInput(f"--plot {plot} is not {' or '.join(known)}")
    # imported here, so that other commands do not wait for them
    from orchestrator.reading.formats import terminal_table, write
    from orchestrator.reading.groups import Runs
    from orchestrator.storage.store import write_atomically
    from orchestrator.sweeps.sweep_results import compared

    runs = Runs(store.resolve())
    comparison = compared(runs, names, files)
    console = terminal()
    if comparison.lines:
        console.print(terminal_table(comparison, console.width))
    for warning in [*filter(None, map(runs.chosen, names)), *comparison.warnings]:
        console.print(f"note: {warning}")
    for path in to:
        if path.suffix == ".html":
            from orchestrator.pages.comparison_page import write_page  # loads torch and matplotlib

            if missing := write_page(comparison, runs.store, path, samples):
                console.print(f"note: {missing}")
        elif path.suffix in PLOT_ENDINGS:
            from orchestrator.pages.comparison_figures import plot_file

            write_atomically(path, plot_file(comparison, plot or "jf", path.suffix[1:]))
        else:
            write(comparison, path)
        console.print(f"written  {path}")
