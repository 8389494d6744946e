"""`wsss-orch launch`: run a method expression, or show the plan of it."""

import logging
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.launch import (
    Prepared,
    Request,
    check_images,
    depending_on,
    experiment,
    open_images,
    prepare,
    select,
)
from orchestrator.plan import Step
from orchestrator.progress import Display
from orchestrator.results import write_results
from orchestrator.tables import print_plan, print_stages, result_table, terminal
from orchestrator.tracking import check_tracking, deliver_or_say

EPILOG = """Examples:

  wsss-orch launch --method lpcam+amn

  wsss-orch launch --method cam+irn --plan

  wsss-orch launch --method lpcam+irn --images voc12:PATH --segmenter deeplabv2-resnet101 --set lpcam.clusters=20
"""


def launch(
    method: Annotated[str, typer.Option(help="Names joined by '+', such as lpcam+amn (see `wsss-orch ls`).")],
    images: Annotated[str, typer.Option(help="shapes, voc12:PATH or folder:PATH.")] = "shapes",
    segmenter: Annotated[str, typer.Option(help="Segmenter; the image set's own by default.")] = "",
    recipe: Annotated[str, typer.Option(help="A preset's name or a YAML file of settings.")] = "",
    assign: Annotated[list[str], typer.Option("--set", help="key=value; may be repeated.")] = [],  # noqa: B006 (typer's way)
    random_seed: Annotated[int, typer.Option(help="Reaches weights, order, augmentation and clustering.")] = 0,
    store: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("wsss-store"),
    engine: Annotated[str, typer.Option(help="ray or local (this process, no Ray needed).")] = "ray",
    address: Annotated[str, typer.Option(help="A running Ray cluster; a private one on this machine by default.")] = "",
    track: Annotated[str, typer.Option(help="mlflow or none.")] = "mlflow",
    tracking_uri: Annotated[
        str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="An MLflow server or database; the store's own by default.")
    ] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run and why; writes nothing.")] = False,
    until: Annotated[str, typer.Option(help="Stop after this stage.")] = "",
    only: Annotated[str, typer.Option(help="Run this stage alone.")] = "",
    exclude: Annotated[Path | None, typer.Option(help="A file of image ids to leave out, one a line.")] = None,
    force: Annotated[str, typer.Option(help="Discard this stage and what depends on it first.")] = "",
) -> None:
    """Run a method from image-level labels to a trained, evaluated segmenter."""
    console = terminal()
    if engine not in ("ray", "local") or track not in ("mlflow", "none"):
        raise WrongInput("--engine is ray or local, and --track is mlflow or none")
    if track == "mlflow":
        check_tracking(tracking_uri)
    request = Request(method, images, segmenter, recipe, tuple(assign), random_seed, store.resolve(), exclude)
    wanted = experiment(request)
    opened = open_images(images, wanted.settings, request.store, make=not plan, exclude=exclude)
    if opened is None:
        print_stages(console, wanted)
        return
    prepared = prepare(wanted, opened)
    if plan:
        print_plan(console, prepared, select(prepared.steps, until, only))
        return
    check_images(prepared)
    prepared.planner.fingerprints.save()
    steps = select(prepared.steps, until, only)
    if force:
        _discard(prepared, force)
    if all(step.cached for step in steps):
        console.print(f"nothing to do: all {len(steps)} stages of {method} are cached in {store}")
    else:
        _execute(console, prepared, steps, engine, address)
    if not (until or only):
        _report(console, prepared, track, tracking_uri)


launch.__doc__ = f"{launch.__doc__}\n\n{EPILOG}"


def _execute(console: Console, prepared: Prepared, steps: list[Step], engine_name: str, address: str) -> None:
    """Run what is missing; a failing stage's whole story goes to the run's log."""
    log = prepared.request.store / "runs" / prepared.run / "log.txt"
    _log_to(log)
    # heavy imports (torch, ray) only where something runs
    from orchestrator.runner import Runner
    from training.loop import Stopped

    began = time.monotonic()
    with Display(console) as display, _engine(engine_name, address, prepared) as engine:
        runner = Runner(engine, prepared.planner, display)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: runner.stop())
        for step in steps:
            reason = step.reason
            try:
                if step.cached or not runner.run(step):
                    display.say(f"{step.stage.name}: cached")
                else:
                    logging.info("%s made (%s)", step.stage.name, reason)
            except Stopped:
                display.say(f"stopped during {step.stage.name}; the same command continues it")
                raise KeyboardInterrupt from None
            except Exception as error:
                logging.exception("%s failed", step.stage.name)
                error.add_note(f"in stage {step.stage.name}")
                error.log = log  # type: ignore[attr-defined]
                raise
    console.print(f"ran in {time.monotonic() - began:.0f} s; log {log}")


def _engine(name: str, address: str, prepared: Prepared):
    if name == "local":
        from orchestrator.local_engine import LocalEngine

        return LocalEngine()
    try:
        from orchestrator.ray_engine import RayEngine
    except ModuleNotFoundError as error:
        raise WrongInput(f"--engine ray needs {error.name}, which is not installed; --engine local runs without it") from error
    return RayEngine(prepared.request.store, address, prepared.settings["training.workers"])


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True)


def _discard(prepared: Prepared, name: str) -> None:
    from orchestrator.runner import discard

    for step in depending_on(prepared.steps, name):
        discard(step)
        step.manifest, step.reason = None, "forced"


def _report(console: Console, prepared: Prepared, track: str, tracking_uri: str) -> None:
    """The result table, the report page and, where asked for, the copy in MLflow."""
    results, folder = write_results(prepared)
    console.print(result_table(results))
    from orchestrator.report import write_report

    console.print(f"report  {write_report(prepared, results, folder)}")
    if track == "mlflow":
        console.print(f"mlflow  {deliver_or_say(prepared.request.store, prepared.run, tracking_uri)}", markup=False)
    console.print(f"log     {folder / 'log.txt'}")
