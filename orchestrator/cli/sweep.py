"""`wsss-orch sweep`: one experiment over many values of its settings."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.cli import complete, options
from orchestrator.engine.checks import check_images, check_imports, weights_problems
from orchestrator.engine.execution import Execution, Where
from orchestrator.planning.experiment import Request
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared, open_images_of, plan_with, planner
from orchestrator.planning.refusals import made_otherwise, overlaps, unread
from orchestrator.planning.workers import WORKERS
from orchestrator.reading.tables import terminal, warn
from orchestrator.storage.place import LOG
from orchestrator.sweeps.axes import split
from orchestrator.sweeps.sweep import Sweep
from orchestrator.tracking.live import Live
from orchestrator.tracking.tracking import deliver_or_say


def sweep(
    context: typer.Context,
    method: options.Method,
    vary: Annotated[
        list[str],
        typer.Option(
            help="key=values: 0.1,0.5,1 or 2:8:2 or loguniform(0.01,1); may be repeated.", autocompletion=complete.settings
        ),
    ],
    images: options.Images = "shapes",
    segmenter: options.Segmenter = "",
    recipe: options.Preset = "",
    assign: options.Assignments = [],
    search: Annotated[
        str, typer.Option(help="grid (all combinations of values), random, or optuna (learns from scores).")
    ] = "grid",
    trials: Annotated[
        int, typer.Option(min=1, help="Number of trials; in a grid, number of draws from uniform, loguniform.")
    ] = 1,
    random_seed: Annotated[int, typer.Option(help="First random seed of each trial, and the seed of the draws.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="Repeat each trial with this number of random seeds.")] = 1,
    random_seeds: options.Seeds = "",
    by: Annotated[str, typer.Option(help="Score that orders trials and guides a search, such as seed.miou/train.")] = "",
    stop_early: Annotated[str, typer.Option(help="Stop weak trials early, by loss (of epochs) or score (earlier ones).")] = "",
    until: options.Until = "",
    at_once: Annotated[int, typer.Option(min=1, help="Trials that run at the same time and share the machine.")] = 4,
    store: options.StoreRoot = options.STORE,
    engine: options.Engine = "ray",
    address: options.RayAddress = "",
    track: options.Track = "mlflow",
    tracking_uri: options.TrackingUri = "",
    exclude: options.Exclude = None,
    saliency: options.Saliency = None,
) -> None:
    """Vary settings with Ray Tune. All thresholds (seed.threshold) are scored in one pass. Common stages are made once.

    The same command continues a sweep. The result is a table, the best setting, and a page with sensitivity plots.

    Examples:

      wsss-orch sweep --method recam --vary recam.lambda=0.1,0.5,1,2 --runs 3

      wsss-orch sweep --method lpcam --vary lpcam.clusters=8,12,16 --vary seed.threshold=0.05:0.6:0.01 --until lpcam-maps-score

      wsss-orch sweep --method cam+irn --vary "irn.lr=loguniform(0.01,0.3)" --trials 10

      wsss-orch sweep --method cam+irn --vary "irn.lr=loguniform(0.01,0.3)" --search optuna --trials 20 --by pseudo.miou/train
    """
    tracked = options.tracking(track, tracking_uri)
    axes, thresholds = split(vary)
    seeds = options.seeds_of(random_seed, runs, random_seeds)
    request = Request(
        method=method,
        images=images,
        segmenter=segmenter,
        recipe=recipe,
        assignments=tuple(options.assignments(assign, saliency)),
        random_seed=seeds[0],
        store=store.resolve(),
        exclude=exclude,
        cluster=bool(address),
    )
    asked = Sweep(request, axes, thresholds, seeds, trials=trials, until=until, search=search, by=by, stop_early=stop_early)
    asked.check()
    began, console, where = time.monotonic(), terminal(), Where(engine, address)
    where.check()
    options.drive(context, request.store)
    _run(console, asked, where, at_once, tracked)
    _report(console, asked, tracked)
    console.print(options.ending(began, asked.folder / LOG))


def _run(console: Console, asked: Sweep, where: Where, at_once: int, tracked: str | None) -> None:
    """Run every trial that is not in the store yet."""
    # imported here, so that other commands do not wait for Ray and torch
    from orchestrator.sweeps.early import check
    from orchestrator.sweeps.search import search_of
    from orchestrator.sweeps.trials import Trials

    search = search_of(asked)
    trials = [asked.experiment(values) for values in asked.probed]
    wanted = trials[0]
    opened = open_images_of(wanted, make=True)
    assert opened is not None  # missing images are made
    shared = planner(wanted, opened)
    runs = [plan_with(shared, trial, until=asked.until) for trial in trials]  # refuses an unknown stage before anything runs
    one = runs[0]
    warn(console, [*unread(wanted), *made_otherwise(one), *asked.by_chance(at_once)])
    asked.refuse(
        {step.stage.list_name: len(step.items) for step in one.steps},
        [*overlaps(one), *([] if where.address else weights_problems(runs))],
    )
    if not any(step.stage.scores for step in one.steps):
        raise WrongInput("no stage of this sweep is scored, so no trial would be better; it needs a later --until, or masks")
    if asked.stop_early:
        check(asked.stop_early, one.steps)
    warn(console, check_images(one))
    _check_settings(runs)
    options.note(console, where.advice(one.steps))
    options.open_store(console, shared)
    log = asked.folder / LOG
    workers = max(trial.settings[WORKERS] for trial in trials)
    with Execution(console, shared, workers, where, log) as execution, Live(asked.request.store, tracked, asked.name) as live:
        Trials(asked, execution, search, at_once, live).run()


def _check_settings(runs: Sequence[Prepared]) -> None:
    """Let the stages of the later trials check their settings and files too, once where stages have equal settings."""
    checked = {_settings(step) for step in runs[0].steps if not step.cached}  # with the images
    steps = {_settings(step): step for run in runs for step in run.steps if not step.cached}
    check_imports([step for settings, step in steps.items() if settings not in checked], runs[0].images)


def _settings(step: PlannedStage) -> tuple[str, str]:
    return step.stage.name, str(step.stage.settings)


def _report(console: Console, asked: Sweep, tracked: str | None) -> None:
    """Print the table of trials and the best one, write the page, copy the runs to MLflow; exit code 1 if a run failed."""
    from orchestrator.pages.sweep_page import write_page
    from orchestrator.reading.groups import Runs
    from orchestrator.sweeps.sweep_results import findings, read_sweep
    from orchestrator.sweeps.sweep_table import sweep_table

    record = read_sweep(asked.request.store, asked.name)
    if record is None:
        raise WrongInput(f"the sweep {asked.name} made no trial; its log is {asked.folder / LOG}")
    found = findings(Runs(asked.request.store), record, asked.by)
    console.print(sweep_table(found))
    for sentence in [*found.failed, *found.verdict()]:
        console.print(sentence)
    page = asked.folder / "sweep.html"
    write_page(found, page)
    console.print(f"page    {page}")
    if tracked is not None:
        runs = [results["run"] for trial in found.trials for results in trial.group.runs]
        console.print(f"mlflow  {deliver_or_say(asked.request.store, runs, tracked, asked.name)}")
    if found.failed:
        raise typer.Exit(1)
