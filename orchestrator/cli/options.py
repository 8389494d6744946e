"""Options of several subcommands."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.cli import complete, paths
from orchestrator.planning.plan import Planner
from orchestrator.storage.bucket import mirror_folder, noted_address, open_bucket
from orchestrator.storage.place import STORE as STORE
from orchestrator.storage.remote import SCHEME, Address, address_of
from orchestrator.tracking.tracking import VARIABLE, check_tracking

MOST_SEEDS = 1000  # of one command: planning takes some 20 ms for each
ENDINGS, PLOT_ENDINGS = (".html", ".md", ".tex", ".csv"), (".svg", ".png")  # of the files that --to takes
ELSEWHERE = "elsewhere"  # a key of typer's context: the command is only checked here and runs on a cluster

Method = Annotated[
    str, typer.Option(help="Names joined by '+', such as lpcam+amn (see `wsss-orch ls`).", autocompletion=complete.methods)
]
Images = Annotated[
    str,
    typer.Option(
        help="An image set, such as shapes, voc12:PATH or folder:PATH; `wsss-orch ls` has all.",
        autocompletion=complete.image_sets,
    ),
]
Segmenter = Annotated[
    str,
    typer.Option(
        help="A segmenter, or own (the network's own decoder). Default: that of the image set.",
        autocompletion=complete.segmenters,
    ),
]
Preset = Annotated[
    str, typer.Option("--recipe", help="A preset's name or a YAML file of settings.", autocompletion=complete.presets)
]
Assignments = Annotated[list[str], typer.Option("--set", help="key=value; may be repeated.", autocompletion=complete.settings)]
Files = Annotated[
    list[Path],
    paths.option(
        "--to",
        parser=paths.file,
        help="Also write this file: .html, .md, .tex or .csv, or .svg or .png of a plot or figure; may be repeated.",
    ),
]
Saliency = Annotated[
    Path | None,
    paths.option(help="Folder of saliency maps, one 8-bit greyscale image each, for methods that need them; or contrast."),
]
Seeds = Annotated[str, typer.Option("--random-seeds", help="Repeat with these random seeds, such as 0,1,2.")]
Model = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A finished run: a folder of STORE/runs, a method expression for the newest run of it, or the path of a bundle.",
        autocompletion=complete.runs,
    ),
]
Competition = Annotated[str, typer.Option(help="For voc-server: comp5 (trained on VOC alone) or comp6, the default.")]


def assignments(assign: Sequence[str], saliency: Path | None) -> list[str]:
    """The values of --set, with that of --saliency."""
    return [*assign, f"images.saliency={saliency}"] if saliency else [*assign]


def store_root(context: typer.Context, store: Path) -> Path:
    """The folder of `--store`; for s3://bucket/prefix, the attached mirror. WrongInput if it cannot be used."""
    if context.resilient_parsing or context.obj == ELSEWHERE:
        return store
    if address := s3_address(store):
        return open_bucket(mirror_folder(address), address)
    if why := paths.no_folder(store):
        raise WrongInput(f"--store {why}; results are kept in a folder")
    if address := noted_address(store):
        return open_bucket(store.resolve(), address)
    return store


def s3_address(store: Path) -> Address | None:
    """The address that `--store` names, None for a folder; as a path it has lost one of its two slashes."""
    kind, _, place = store.as_posix().partition("/")
    return address_of(f"{SCHEME}{place}") if kind == "s3:" else None


StoreRoot = Annotated[
    Path, paths.option("--store", callback=store_root, help="Where results are kept: a folder, or s3://bucket/prefix.")
]
ImagesRoot = Annotated[Path, paths.option("--store", callback=store_root, help="Where built-in images are kept.")]
Engine = Annotated[str, typer.Option(help="ray, or local: this process and no Ray, faster for up to 200 images.")]
RayAddress = Annotated[str, typer.Option(help="A running Ray cluster; a private one on this machine by default.")]
Exclude = Annotated[Path | None, paths.option(help="A file of image ids to leave out, one a line.")]
Until = Annotated[str, typer.Option(help="Stop after this stage.")]
Track = Annotated[str, typer.Option(help="mlflow or none.")]
Samples = Annotated[int, typer.Option(min=1, help="Images of each list that the page shows.")]
TrackingUri = Annotated[str, typer.Option(envvar=VARIABLE, help="An MLflow server or database; the store's own by default.")]


def check_endings(to: Sequence[Path]) -> None:
    """Raise WrongInput for a file of `--to` whose ending says nothing of its form."""
    for path in to:
        if path.suffix not in ENDINGS + PLOT_ENDINGS:
            raise WrongInput(f"--to {path} must end in one of {', '.join(ENDINGS + PLOT_ENDINGS)}")


def note(console: Console, told: str) -> None:
    """Print a note, unless it is empty."""
    if told:
        console.print(f"note: {told}")


def ending(began: float, log: Path) -> str:
    """The last line of a command that runs stages: how long a person has waited, from `began` (`time.monotonic`) on."""
    return f"ran in {time.monotonic() - began:.0f} s; log {log}"


def drive(context: typer.Context, store: Path) -> None:
    """Be the only writer of a store on S3 until the command ends; WrongInput if another launch is, or nobody can write."""
    from orchestrator.storage.driver import driving

    if why := paths.unwritable(store):
        raise WrongInput(f"--store {store} cannot be written, because {why}")
    context.with_resource(driving(store))


def open_store(console: Console, planner: Planner) -> None:
    """Make the folders of the planner's store, and tell if it is new: a person who expects an old one sees that it is not there.

    The fingerprints of the images are kept in it.
    """
    if planner.store.open():
        console.print(f"a new store: {planner.store.root}")
    planner.fingerprints.save()


def seeds_of(random_seed: int, runs: int, random_seeds: str) -> list[int]:
    """The random seeds that --random-seed, --runs and --random-seeds ask for."""
    if random_seed < 0:
        raise WrongInput(f"--random-seed {random_seed} is below 0; random seeds are whole numbers from 0")
    given = random_seeds.split(",") if random_seeds else range(random_seed, random_seed + runs)
    if len(given) > MOST_SEEDS:
        raise WrongInput(
            f"{len(given)} random seeds are too many, as each is a planned and printed run; {MOST_SEEDS} are the most"
        )
    try:
        seeds = list(map(int, given))
    except ValueError:
        raise WrongInput(f"--random-seeds {random_seeds} is not a list of whole numbers such as 0,1,2") from None
    if not random_seeds:
        return seeds
    if runs > 1 or random_seed or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise WrongInput("--random-seeds takes each number from 0 once, and excludes --runs and --random-seed")
    return seeds


def tracking(track: str, uri: str) -> str | None:
    """The checked URI of --track and --tracking-uri: "" for the store's own database, None for no tracking."""
    if track not in ("mlflow", "none"):
        raise WrongInput(f"--track {track} is neither mlflow nor none")
    if track == "none":
        if uri and uri != os.environ.get(VARIABLE):
            raise WrongInput(f"--tracking-uri {uri} is not read with --track none; give one of them")
        return None
    check_tracking_uri(uri)
    return uri


def check_tracking_uri(uri: str) -> None:
    """Raise WrongInput for a tracking URI that MLflow does not take; the message names the option or variable."""
    variable = f"{VARIABLE}="
    check_tracking(uri, variable if uri and uri == os.environ.get(VARIABLE) else "--tracking-uri ")
