"""`wsss-orch launch`: run a method expression, once or for several random seeds, or show the plan of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator import imports
from orchestrator.execution import Execution, Where
from orchestrator.launch import (
    Prepared,
    Request,
    check_images,
    depending_on,
    experiment,
    open_images,
    plan_with,
    planner,
    repeat,
    select,
)
from orchestrator.results import write_results
from orchestrator.summary import group_of, note_failure, sentence
from orchestrator.tables import group_table, print_plan, print_stages, result_table, terminal

EPILOG = """Examples:

  wsss-orch launch --method lpcam+amn

  wsss-orch launch --method cam+irn --plan

  wsss-orch launch --method recam+irn --runs 5

  wsss-orch launch --method lpcam+irn --images voc12:PATH --segmenter deeplabv2-resnet101 --set lpcam.clusters=20

  wsss-orch launch --method lpcam+irn --images voc12:PATH --maps-from MAPS --plan
"""


def launch(
    method: Annotated[str, typer.Option(help="Names joined by '+', such as lpcam+amn (see `wsss-orch ls`).")],
    images: Annotated[str, typer.Option(help="shapes, voc12:PATH or folder:PATH.")] = "shapes",
    segmenter: Annotated[str, typer.Option(help="Segmenter; the image set's own by default.")] = "",
    recipe: Annotated[str, typer.Option(help="A preset's name or a YAML file of settings.")] = "",
    assign: Annotated[list[str], typer.Option("--set", help="key=value; may be repeated.")] = [],  # noqa: B006 (typer's way)
    random_seed: Annotated[int, typer.Option(help="Reaches weights, order, augmentation and clustering.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="Repeat with so many random seeds, from --random-seed on.")] = 1,
    random_seeds: Annotated[str, typer.Option(help="Repeat with just these, such as 0,1,2.")] = "",
    store: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("wsss-store"),
    engine: Annotated[str, typer.Option(help="ray or local (this process, no Ray needed).")] = "ray",
    address: Annotated[str, typer.Option(help="A running Ray cluster; a private one on this machine by default.")] = "",
    track: Annotated[str, typer.Option(help="mlflow or none.")] = "mlflow",
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run and why; writes nothing.")] = False,
    until: Annotated[str, typer.Option(help="Stop after this stage.")] = "",
    only: Annotated[str, typer.Option(help="Run this stage alone.")] = "",
    exclude: Annotated[Path | None, typer.Option(help="A file of image ids to leave out, one a line.")] = None,
    force: Annotated[str, typer.Option(help="Discard this stage and what depends on it first.")] = "",
    network_from: Annotated[Path | None, typer.Option(help=imports.HELP["network"])] = None,
    maps_from: Annotated[Path | None, typer.Option(help=imports.HELP["maps"])] = None,
    masks_from: Annotated[Path | None, typer.Option(help=imports.HELP["masks"])] = None,
) -> None:
    """Run a method from image-level labels to a trained, evaluated segmenter."""
    console, where = terminal(), Where(engine, address)
    if track not in ("mlflow", "none"):
        raise WrongInput(f"--track {track} is neither mlflow nor none")
    seeds = seeds_of(random_seed, runs, random_seeds)
    assign = [*assign, *imports.assignments(network=network_from, maps=maps_from, masks=masks_from)]
    request = Request(method, images, segmenter, recipe, tuple(assign), seeds[0], store.resolve(), exclude)
    wanted = experiment(request)
    opened = open_images(images, wanted.settings, request.store, make=not plan, exclude=exclude)
    if opened is None:
        print_stages(console, wanted)
        return
    shared = planner(wanted, opened)
    named = [f"random seed {seed}" if len(seeds) > 1 else "" for seed in seeds]
    prepared = [plan_with(shared, one, name) for one, name in zip(repeat(wanted, seeds), named, strict=True)]
    if plan:
        for run in prepared:
            print_plan(console, run, select(run.steps, until, only))
        return
    check_images(prepared[0])
    shared.fingerprints.save()
    plans = [select(run.steps, until, only) for run in prepared]
    if force:
        _discard(prepared, force)
    failures: list[Exception | None] = [None] * len(prepared)
    if all(step.cached for steps in plans for step in steps):
        console.print(f"nothing to do: all {sum(map(len, plans))} stages of {method} are cached in {store}")
    else:
        log = request.store / "runs" / prepared[0].run / "log.txt"
        with Execution(console, shared, wanted.settings["training.workers"], where, log) as execution:
            failures = execution.run(plans)
    if not only:
        _report_all(console, prepared, failures, track)
    if len(seeds) == 1 and failures[0]:
        raise failures[0]
    for run, failure in zip(prepared, failures, strict=True):
        if failure:
            console.print(f"random seed {run.request.random_seed} failed: {sentence(failure)}", markup=False)
    if any(failures):
        raise typer.Exit(1)


launch.__doc__ = f"{launch.__doc__}\n\n{EPILOG}"


def seeds_of(random_seed: int, runs: int, random_seeds: str) -> list[int]:
    """The random seeds that the three options ask for."""
    if not random_seeds:
        return list(range(random_seed, random_seed + runs))
    try:
        seeds = [int(seed) for seed in random_seeds.split(",")]
    except ValueError:
        raise WrongInput(f"--random-seeds {random_seeds} is not a list of whole numbers such as 0,1,2") from None
    if runs > 1 or len(set(seeds)) < len(seeds):
        raise WrongInput("--random-seeds takes each number once, and goes without --runs")
    return seeds


def _discard(runs: Sequence[Prepared], name: str) -> None:
    from orchestrator.runner import discard

    for step in [step for run in runs for step in depending_on(run.steps, name)]:
        discard(step)
        step.manifest, step.reason = None, "forced"


def _report_all(console: Console, runs: Sequence[Prepared], failures: Sequence[Exception | None], track: str) -> None:
    """The report of every run that came to its end, and what they come to together where there are several."""
    made = []
    for run, failure in zip(runs, failures, strict=True):
        folder = run.request.store / "runs" / run.run
        if failure:
            note_failure(folder, failure)
        else:
            made.append(_report(console, run, track, alone=len(runs) == 1))
            (folder / "failed.json").unlink(missing_ok=True)
    if len(runs) > 1 and made:
        console.print(group_table(group_of(made)))


def _report(console: Console, prepared: Prepared, track: str, alone: bool) -> dict[str, Any]:
    """The result table if the run is `alone`, its report page and, where asked for, the copy in MLflow; the results."""
    results, folder = write_results(prepared)
    if alone:
        console.print(result_table(results))
    from orchestrator.report import write_report

    console.print(f"report  {write_report(prepared, results, folder)}")
    if track == "mlflow":
        from orchestrator.track import track_run

        console.print(f"mlflow  {track_run(prepared.request.store, results, folder)}")
    if alone:
        console.print(f"log     {folder / 'log.txt'}")
    return results
