"""`wsss-orch launch`: run a method expression, once or for several random seeds, or show its plan."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from imagesets.errors import WrongInput, refuse
from orchestrator.cli import options, paths
from orchestrator.engine.announced import announced
from orchestrator.engine.checks import check_images, check_imports, weights_problems
from orchestrator.engine.execution import Execution, Where, note_in_log
from orchestrator.planning import in_place
from orchestrator.planning.experiment import Experiment, Request, against_names, experiment, from_companions, repeat
from orchestrator.planning.plan import Planner
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared, depending_on, open_images_of, plan_with, planner, select
from orchestrator.planning.refusals import made_otherwise, problems, refuse_run, unread
from orchestrator.planning.stage import narrowed
from orchestrator.planning.workers import WORKERS
from orchestrator.reading.hidden import hidden_uri
from orchestrator.reading.results import completed, without_classes, write_results
from orchestrator.reading.summary import group_of, note_failure, sentence
from orchestrator.reading.tables import group_table, print_plan, print_stages, result_table, terminal, warn
from orchestrator.storage.place import LOG
from orchestrator.tracking.live import Live
from orchestrator.tracking.tracking import deliver_or_say

if TYPE_CHECKING:
    from orchestrator.afterwards.bundle import Bundle


def launch(
    context: typer.Context,
    method: options.Method,
    images: options.Images = "shapes",
    segmenter: options.Segmenter = "",
    recipe: options.Preset = "",
    assign: options.Assignments = [],
    random_seed: Annotated[int, typer.Option(help="Decides weights, order, augmentation and clustering.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="Repeat with this number of random seeds, from --random-seed on.")] = 1,
    random_seeds: options.Seeds = "",
    store: options.StoreRoot = options.STORE,
    engine: options.Engine = "ray",
    address: options.RayAddress = "",
    track: options.Track = "mlflow",
    tracking_uri: options.TrackingUri = "",
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run and why; writes nothing.")] = False,
    until: options.Until = "",
    only: Annotated[str, typer.Option(help="Run this stage alone.")] = "",
    exclude: options.Exclude = None,
    force: Annotated[str, typer.Option(help="Discard this stage and what depends on it first.")] = "",
    network_from: Annotated[Path | None, paths.option(help=in_place.HELP["network"])] = None,
    maps_from: Annotated[Path | None, paths.option(help=in_place.HELP["maps"])] = None,
    masks_from: Annotated[Path | None, paths.option(help=in_place.HELP["masks"])] = None,
    saliency: options.Saliency = None,
) -> list[str]:
    """Run a method, from image-level labels to a scored segmenter.

    Examples:

      wsss-orch launch --method lpcam+amn

      wsss-orch launch --method cam+irn --plan

      wsss-orch launch --method recam+irn --runs 5

      wsss-orch launch --method lpcam+irn --images voc12:PATH --segmenter deeplabv2-resnet101 --set lpcam.clusters=20

      wsss-orch launch --method lpcam+irn --images voc12:PATH --maps-from MAPS --plan
    """
    began, console, where = time.monotonic(), terminal(), Where(engine, address)
    if until and only:
        raise WrongInput(f"--until {until} runs all that leads to a stage, --only {only} one stage alone; give one of them")
    tracked = options.tracking(track, tracking_uri)
    seeds = options.seeds_of(random_seed, runs, random_seeds)
    bundle = _bundle(network_from)
    network = bundle.network(Path(context.with_resource(TemporaryDirectory()))) if bundle else network_from
    imports = in_place.assignments(network=network, maps=maps_from, masks=masks_from)
    request = Request(
        method=method,
        images=images,
        segmenter=segmenter,
        recipe=recipe,
        assignments=(*options.assignments(assign, saliency), *imports),
        random_seed=seeds[0],
        store=store.resolve(),
        exclude=exclude,
        cluster=bool(address),
    )
    wanted = _wanted(console, request)
    if not plan:
        where.check()
        options.drive(context, request.store)
    opened = open_images_of(wanted, make=not plan)
    if opened is None:
        _show_without_images(console, replace(wanted, stages=narrowed(wanted.stages, until, only)))
        return []
    if bundle:
        bundle.check(opened.classes)
    shared = planner(wanted, opened)
    prepared = _planned(shared, wanted, seeds, until, only)
    if bundle:
        bundle.check_fit(prepared[0])
    _tell(console, prepared)
    forced = _forced(prepared, force)
    _refuse(prepared, fetch=not plan)
    plans = [select(run.steps, only) for run in prepared]
    if plan:
        _show(console, prepared, plans)
        return []
    warn(console, check_images(prepared[0]))
    if bundle:  # only now that nothing is refused any more
        prepared = _planned(shared, _with_kept_network(wanted, bundle), seeds, until, only)
        forced, plans = _forced(prepared, force), [select(run.steps, only) for run in prepared]
    failures = _carry_out(console, prepared, plans, where, forced, tracked, report=not only)
    console.print(options.ending(began, prepared[0].folder / LOG))
    _raise(console, prepared, failures)
    return [] if only else [run.run for run in prepared]


def _bundle(network_from: Path | None) -> "Bundle | None":
    """The bundle that `--network-from` names, if it names one."""
    if network_from is None:
        return None
    from orchestrator.afterwards.bundle import bundled  # loads torch

    return bundled(network_from)


def _wanted(console: Console, request: Request) -> Experiment:
    """What a request asks for; its unread settings and the defaults that others gave are printed."""
    wanted = experiment(request)
    warn(console, unread(wanted))
    for told in [*from_companions(wanted), *against_names(wanted)]:
        console.print(f"note: {told}")
    return wanted


def _with_kept_network(wanted: Experiment, bundle: "Bundle") -> Experiment:
    """The experiment with the bundle's network in the store, which keeps the file for `reproduce`."""
    request = wanted.request
    kept = in_place.assignments(network=bundle.network(request.store / in_place.IMPORTED))
    return experiment(replace(request, assignments=(*request.assignments, *kept)))


def _show_without_images(console: Console, wanted: Experiment) -> None:
    """Print the stages of a run whose built-in images are not made yet, or refuse them."""
    refuse(problems(wanted, wanted.stages, {}), f"the plan of {wanted.request.method}")
    print_stages(console, wanted)


def _planned(shared: Planner, wanted: Experiment, seeds: Sequence[int], until: str, only: str) -> list[Prepared]:
    """The plan of each random seed's run, all by one planner."""
    names = [f"random seed {seed}" if len(seeds) > 1 else "" for seed in seeds]
    return [plan_with(shared, one, name, until, only) for one, name in zip(repeat(wanted, seeds), names, strict=True)]


def _tell(console: Console, runs: Sequence[Prepared]) -> None:
    """Print what the user should know about these runs before they begin."""
    for name in runs[0].unscored:
        console.print(f"list {name} has no masks, so no score that needs masks is made on it")
    for note in dict.fromkeys(note for run in runs for note in made_otherwise(run)):
        console.print(f"note: {note}")


def _forced(runs: Sequence[Prepared], force: str) -> dict[Path, str]:
    """The folders that `force` discards, with the names of their stages; in the plan these are not cached any more."""
    found: dict[Path, str] = {}
    for run in runs if force else ():
        for step in depending_on(run.steps, force):
            found |= dict.fromkeys(run.planner.discarded(step), step.stage.name)
            step.reason = "forced"
    return found


def _refuse(runs: Sequence[Prepared], fetch: bool) -> None:
    """Raise WrongInput for runs that could not end. With `fetch`, missing weights of ImageNet are fetched."""
    further = [] if runs[0].request.cluster else weights_problems(runs, fetch)
    for run in runs:
        refuse_run(run, further)


def _show(console: Console, runs: Sequence[Prepared], plans: Sequence[list[PlannedStage]]) -> None:
    """Print the plans, or refuse files that they import."""
    check_imports(runs[0].steps, runs[0].images)
    for run, steps in zip(runs, plans, strict=True):
        print_plan(console, run, steps)


def _carry_out(
    console: Console,
    runs: Sequence[Prepared],
    plans: Sequence[Sequence[PlannedStage]],
    where: Where,
    forced: Mapping[Path, str],
    tracked: str | None,
    report: bool,
) -> Sequence[Exception | None]:
    """Run the missing stages, and with `report` write the results; returns the error of each run, or None."""
    options.note(console, where.advice(plans[0]))
    if tracked and not report:
        options.note(console, f"--only makes one stage and no run; {hidden_uri(tracked)} is told of runs alone")
    options.open_store(console, runs[0].planner)
    _discard(forced)
    told = tracked if report else None
    failures = run_missing(console, runs, plans, where, told, runs[0].folder / LOG, runs[0].request.method)
    if report:
        _report(console, runs, failures, tracked)
    return failures


def _discard(forced: Mapping[Path, str]) -> None:
    """Remove the results of forced stages, so that they are made again."""
    from orchestrator.storage.result import discard_stage  # loads numpy

    for folder, name in forced.items():
        if not discard_stage(folder):
            raise WrongInput(f"{name} is being made by another launch; it cannot be discarded now")


def run_missing(
    console: Console,
    runs: Sequence[Prepared],
    plans: Sequence[Sequence[PlannedStage]],
    where: Where,
    tracked: str | None,
    log: Path,
    what: str,
) -> Sequence[Exception | None]:
    """Run the missing stages of each run's plan; returns the error of each run, or None. MLflow is told if `tracked` is a URI.

    `what` has these stages; it is named if all of them are cached.
    """
    first, steps = runs[0], {step.key: step for plan in plans for step in plan}
    if all(step.cached for step in steps.values()):
        console.print(done := f"nothing to do: all {len(steps)} stages of {what} are cached in {first.request.store}")
        note_in_log(log, done)
        return [None] * len(runs)
    workers, live = max(run.settings[WORKERS] for run in runs), Live(first.request.store, tracked)
    whole = [len(plan) for plan in plans] == [len(run.steps) for run in runs]
    with announced(runs, whole), Execution(console, first.planner, workers, where, log) as execution, live:
        live.follow(runs)
        failures = execution.run(plans)
        live.end((run.run for run, failure in zip(runs, failures, strict=True) if failure), "FAILED")
        return failures


def _report(console: Console, runs: Sequence[Prepared], failures: Sequence[Exception | None], tracked: str | None) -> None:
    """Print the tables of every finished run, write its page, and copy it to MLflow unless `tracked` is None.

    For several runs, print their common result too. The results of all are written first: until then `clean` may remove them,
    and a page may fail.
    """
    from orchestrator.pages.report import write_report

    made = []
    for run, failure in zip(runs, failures, strict=True):
        if failure:
            note_failure(run.folder, failure)
        else:
            finished = completed(run)
            made.append((finished, *write_results(finished)))
    for run, results, folder in made:
        if len(runs) == 1:
            console.print(
                result_table(results, console.width)
                if results["rows"]
                else "nothing was scored: this launch has no stage that scores"
            )
        seed = f"random seed {results['random_seed']}: " if len(runs) > 1 else ""
        warn(console, (f"{seed}{told}" for told in without_classes(results["rows"])))
        console.print(f"report  {write_report(run, results, folder)}")
        if tracked is not None:
            console.print(f"mlflow  {deliver_or_say(run.request.store, [run.run], tracked)}")
    if len(runs) > 1 and made:
        console.print(group_table(group_of(results for _, results, _ in made), console.width))


def _raise(console: Console, runs: Sequence[Prepared], failures: Sequence[Exception | None]) -> None:
    """End with the error of the run; for several runs, with a line for each failed one, which the exception has as a note."""
    if len(runs) == 1 and failures[0]:
        raise failures[0]
    ended = typer.Exit(1)
    for run, failure in zip(runs, failures, strict=True):
        if failure:
            ended.add_note(f"random seed {run.request.random_seed} failed: {sentence(failure)}")
            console.print(ended.__notes__[-1])
    if any(failures):
        raise ended
