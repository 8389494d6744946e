"""`wsss-orch tables` and `wsss-orch table`: the papers' tables, and ours beside them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.cli import complete, options
from orchestrator.cli.launch import run_missing
from orchestrator.cli.options import ENDINGS, PLOT_ENDINGS
from orchestrator.engine.checks import Weights, check_images, check_imports, weights_problems
from orchestrator.engine.execution import Where
from orchestrator.planning.experiment import Experiment
from orchestrator.planning.images import images_recipe
from orchestrator.planning.prepared import Prepared, open_images_of, planner
from orchestrator.planning.refusals import made_otherwise, refuse_run
from orchestrator.reading.results import completed, write_results
from orchestrator.reading.summary import note_failure
from orchestrator.reading.tables import table as plain_table
from orchestrator.reading.tables import terminal, warn
from orchestrator.storage.place import LOG
from orchestrator.storage.store import write_atomically
from orchestrator.tables.asked import Asked
from orchestrator.tables.catalogue import find_table, load_tables
from orchestrator.tables.plan_table import print_plans
from orchestrator.tables.planned import PlannedRow, Wanted, experiments, plan_rows, runs_of, unread
from orchestrator.tracking.tracking import deliver_or_say


def tables() -> None:
    """List the papers' tables and figures that `wsss-orch table` makes.

    Examples:

      wsss-orch tables
    """
    found = plain_table("id", "of", "images", ">rows", "caption")
    for one in load_tables().values():
        found.add_row(one.id, one.name, one.images, str(sum(bool(row.expression) for row in one.rows)), one.caption)
    terminal().print(found)


def table(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="An id of `wsss-orch tables`.", autocompletion=complete.tables)],
    images: options.Images = "shapes",
    segmenter: Annotated[
        str, typer.Option(help="A segmenter in place of those of the rows.", autocompletion=complete.segmenters)
    ] = "",
    recipe: options.Preset = "",
    assign: Annotated[
        list[str],
        typer.Option(
            "--set", help="key=value, or PATTERN:key=value for some rows; may be repeated.", autocompletion=complete.settings
        ),
    ] = [],
    saliency: options.Saliency = None,
    rows: Annotated[list[str], typer.Option(help="Rows to run: a label, an expression, or a pattern; may be repeated.")] = [],
    runs: Annotated[
        int, typer.Option(min=0, help="Repeat each row with this number of random seeds; 0: as the table says, or once.")
    ] = 0,
    random_seeds: options.Seeds = "",
    to: options.Files = [],
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run; writes nothing.")] = False,
    store: options.StoreRoot = options.STORE,
    engine: options.Engine = "ray",
    address: options.RayAddress = "",
    track: options.Track = "mlflow",
    tracking_uri: options.TrackingUri = "",
    exclude: options.Exclude = None,
) -> None:
    """Run the rows of a paper's table or figure, and print ours beside the published values.

    All rows are one launch: a stage that rows share is made once. Rows that cannot run are marked. The same command continues.

    Examples:

      wsss-orch table lpcam-2 --images voc12:PATH --plan

      wsss-orch table recam-1 --images voc12:PATH --runs 5 --to table.tex

      wsss-orch table lpcam-3 --rows "IRN*" --segmenter deeplabv2-small
    """
    began, console, where = time.monotonic(), terminal(), Where(engine, address)
    tracked = options.tracking(track, tracking_uri)
    options.check_endings(to)
    kind = images_recipe(images).name
    seeds = options.seeds_of(0, runs or 1, random_seeds) if runs or random_seeds else []
    found = find_table(name, kind)
    if plots := [path for path in to if path.suffix in PLOT_ENDINGS and not found.is_figure]:
        raise WrongInput(f"--to {plots[0]}: {found.id} is no figure; it is written as {', '.join(ENDINGS)}")
    asked = Asked(
        table=found,
        images=images,
        store=store.resolve(),
        segmenter=segmenter,
        recipe=recipe,
        assignments=tuple(options.assignments(assign, saliency)),
        random_seeds=tuple(seeds),
        patterns=tuple(rows),
        exclude=exclude,
        cluster=bool(address),
    )
    if not asked.table.columns and not plan:
        _report(console, asked, [PlannedRow(row) for row in asked.table.rows], {}, to, None)
        return
    asked.check()
    wanted = experiments(asked)
    warn(console, unread(asked, wanted))
    if not plan:
        where.check()
        options.drive(context, asked.store)
    planned = _planned(console, asked, wanted, plan)
    if plan:
        print_plans(console, asked, planned)
        return
    _report(console, asked, planned, _run(console, asked, planned, where, tracked), to, tracked)
    console.print(options.ending(began, asked.folder / LOG))


def _planned(console: Console, asked: Asked, wanted: Wanted, plan: bool) -> list[PlannedRow]:
    """The rows of the table with their plans, if the images are drawn; those that would fail later are marked."""
    one = next(found for found in wanted.values() if isinstance(found, Experiment))
    opened = open_images_of(one, make=not plan)
    planned = plan_rows(asked, wanted, planner(one, opened) if opened else None)
    mine = [row for row in planned if row.row in asked.chosen]
    known: dict[Weights, str] = {}
    for row in mine:
        _refuse(row, lambda run: [] if asked.cluster else weights_problems([run], not plan, known))
    if all(row.refusal for row in mine):
        raise WrongInput(f"no row of {asked.table.id} can run, such as {mine[0].row.label!r}: {mine[0].refusal}")
    for note in dict.fromkeys(note for row in mine for run in row.runs for note in made_otherwise(run)):
        console.print(f"note: {note}")
    return planned


def _refuse(row: PlannedRow, further: Callable[[Prepared], list[str]]) -> None:
    """Mark a row whose plan a stage would refuse later, or that has further problems."""
    try:
        for run in row.runs[:1]:
            refuse_run(run, further(run))
            check_imports(run.steps, run.images)
    except WrongInput as error:
        row.refusal = str(error)


def _run(console: Console, asked: Asked, planned: Sequence[PlannedRow], where: Where, tracked: str | None) -> Mapping[str, str]:
    """Run the missing stages of the chosen rows, each once; returns the errors of runs by their names."""
    runs = list(runs_of(asked, planned).values())
    steps = {step.key: step for run in runs for step in run.steps}
    warn(console, check_images(replace(runs[0], steps=list(steps.values()))))
    options.open_store(console, runs[0].planner)
    asked.folder.mkdir(parents=True, exist_ok=True)
    failures = run_missing(console, runs, [run.steps for run in runs], where, tracked, asked.folder / LOG, asked.table.id)
    return {run.run: note_failure(run.folder, failure) for run, failure in zip(runs, failures, strict=True) if failure}


def _report(
    console: Console,
    asked: Asked,
    planned: Sequence[PlannedRow],
    failures: Mapping[str, str],
    to: Sequence[Path],
    tracked: str | None,
) -> None:
    """Print the table, write its page and files, copy its runs to MLflow; exit code 1 if a chosen row has no results."""
    from orchestrator.pages.table_page import plot_file, write_page  # loads torch and matplotlib
    from orchestrator.tables.findings import findings
    from orchestrator.tables.formats import print_table, write

    made = {name: run for name, run in runs_of(asked, planned).items() if name not in failures}
    for run in made.values():
        write_results(completed(run))
    found = findings(asked, planned, failures)
    print_table(console, found)
    for path in [*to, *([] if any(path.suffix == ".html" for path in to) else [asked.folder / "table.html"])]:
        if path.suffix in PLOT_ENDINGS:
            write_atomically(path, plot_file(found, path.suffix[1:]))
        else:
            (write_page if path.suffix == ".html" else write)(found, path)
        console.print(f"{'page   ' if path.suffix == '.html' else 'written'} {path}")
    if tracked is not None:
        console.print(f"mlflow  {deliver_or_say(asked.store, list(made), tracked)}")
    if failures or any(row.refusal for row in planned if row.row in asked.chosen):
        raise typer.Exit(1)
