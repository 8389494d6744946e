"""Options that several subcommands share."""

from pathlib import Path
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.cli import complete
from orchestrator.tracking.tracking import check_tracking

Method = Annotated[
    str, typer.Option(help="Names joined by '+', such as lpcam+amn (see `wsss-orch ls`).", autocompletion=complete.methods)
]
Images = Annotated[str, typer.Option(help="shapes, voc12:PATH or folder:PATH.", autocompletion=complete.image_sets)]
Segmenter = Annotated[str, typer.Option(help="Segmenter; the image set's own by default.", autocompletion=complete.segmenters)]
Preset = Annotated[
    str, typer.Option("--recipe", help="A preset's name or a YAML file of settings.", autocompletion=complete.presets)
]
Assignments = Annotated[list[str], typer.Option("--set", help="key=value; may be repeated.", autocompletion=complete.settings)]
Seeds = Annotated[str, typer.Option("--random-seeds", help="Repeat with just these, such as 0,1,2.")]
StoreRoot = Annotated[Path, typer.Option("--store", help="Where results are kept.")]
Address = Annotated[str, typer.Option(help="A running Ray cluster; a private one on this machine by default.")]
Exclude = Annotated[Path | None, typer.Option(help="A file of image ids to leave out, one a line.")]
Until = Annotated[str, typer.Option(help="Stop after this stage.")]
Track = Annotated[str, typer.Option(help="mlflow or none.")]
TrackingUri = Annotated[
    str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="An MLflow server or database; the store's own by default.")
]

STORE = Path("wsss-store")


def seeds_of(random_seed: int, runs: int, random_seeds: str) -> list[int]:
    """The random seeds that --random-seed, --runs and --random-seeds ask for."""
    if not random_seeds:
        return list(range(random_seed, random_seed + runs))
    try:
        seeds = [int(seed) for seed in random_seeds.split(",")]
    except ValueError:
        raise WrongInput(f"--random-seeds {random_seeds} is not a list of whole numbers such as 0,1,2") from None
    if runs > 1 or len(set(seeds)) < len(seeds):
        raise WrongInput("--random-seeds takes each number once, and goes without --runs")
    return seeds


def tracking(track: str, uri: str) -> str | None:
    """Where --track and --tracking-uri deliver results to, "" for the store's own database and None for nowhere; checked."""
    if track not in ("mlflow", "none"):
        raise WrongInput(f"--track {track} is neither mlflow nor none")
    if track == "none":
        return None
    check_tracking(uri)
    return uri
