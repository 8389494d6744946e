"""`wsss-orch sweep`: one experiment over many values of its settings."""

from pathlib import Path
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.axes import split
from orchestrator.cli.launch import seeds_of
from orchestrator.execution import Execution, Where
from orchestrator.launch import Request, check_images, open_images, plan_with, planner, select
from orchestrator.runs import Runs
from orchestrator.sweep import Sweep, Trials, read_sweep
from orchestrator.sweep_results import findings
from orchestrator.sweep_table import sweep_table
from orchestrator.tables import terminal


def sweep(
    method: Annotated[str, typer.Option(help="Names joined by '+', such as lpcam+amn (see `wsss-orch ls`).")],
    vary: Annotated[list[str], typer.Option(help="key=values: 0.1,0.5,1 or 2:8:2 or loguniform(0.01,1); may be repeated.")],
    images: Annotated[str, typer.Option(help="shapes, voc12:PATH or folder:PATH.")] = "shapes",
    segmenter: Annotated[str, typer.Option(help="Segmenter; the image set's own by default.")] = "",
    recipe: Annotated[str, typer.Option(help="A preset's name or a YAML file of settings.")] = "",
    assign: Annotated[list[str], typer.Option("--set", help="key=value; may be repeated.")] = [],  # noqa: B006 (typer's way)
    trials: Annotated[int, typer.Option(min=1, help="Draws from uniform(a,b) and loguniform(a,b).")] = 1,
    random_seed: Annotated[int, typer.Option(help="First random seed of each trial, and that of the draws.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="Repeat each trial with so many random seeds.")] = 1,
    random_seeds: Annotated[str, typer.Option(help="Repeat with just these, such as 0,1,2.")] = "",
    by: Annotated[str, typer.Option(help="Score to order trials by, such as seed.miou/train.")] = "",
    until: Annotated[str, typer.Option(help="Stop every trial after this stage.")] = "",
    at_once: Annotated[int, typer.Option(min=1, help="Trials under way at once; their stages share what room there is.")] = 4,
    store: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("wsss-store"),
    address: Annotated[str, typer.Option(help="A running Ray cluster; a private one on this machine by default.")] = "",
    exclude: Annotated[Path | None, typer.Option(help="A file of image ids to leave out, one a line.")] = None,
) -> None:
    """Vary settings with Ray Tune. Thresholds (seed.threshold) cost one pass and no trial; what trials share is made once.

    The same command again continues. The result is a table, the best setting, and a page with sensitivity plots.

    Examples:

      wsss-orch sweep --method recam --vary recam.lambda=0.1,0.5,1,2 --runs 3

      wsss-orch sweep --method lpcam --vary lpcam.clusters=8,12,16 --vary seed.threshold=0.05:0.6:0.01 --until lpcam-maps-score

      wsss-orch sweep --method cam+irn --vary "irn.lr=loguniform(0.01,0.3)" --trials 10
    """
    console = terminal()
    axes, thresholds = split(vary)
    seeds = seeds_of(random_seed, runs, random_seeds)
    request = Request(method, images, segmenter, recipe, tuple(assign), seeds[0], store.resolve(), exclude)
    asked = Sweep(request, axes, thresholds, seeds, trials, until)
    asked.check()
    wanted = asked.experiment({axis.name: axis.probes[0] for axis in axes})
    opened = open_images(images, wanted.settings, request.store, make=True, exclude=exclude)
    assert opened is not None  # made where need be
    shared = planner(wanted, opened)
    one = plan_with(shared, wanted)
    select(one.steps, until, "")  # refuses an unknown stage before anything runs
    check_images(one)
    shared.fingerprints.save()
    with Execution(
        console, shared, wanted.settings["training.workers"], Where(address=address), asked.folder / "log.txt"
    ) as execution:
        from orchestrator.tune_trials import run_trials  # loads Ray Tune

        run_trials(axes, trials, random_seed, at_once, asked.folder, Trials(asked, execution, opened).run)
    record = read_sweep(request.store, asked.name)
    if record is None:
        raise WrongInput(f"the sweep {asked.name} made no trial; its log is {asked.folder / 'log.txt'}")
    found = findings(Runs(request.store), record, by)
    console.print(sweep_table(found))
    for sentence in [*found.failed, found.verdict()]:
        console.print(sentence, markup=False)
    from orchestrator.sweep_page import write_page  # loads matplotlib

    console.print(f"page    {write_page(found, asked.folder)}")
    if found.failed:
        raise typer.Exit(1)
