"""`wsss-orch init`: a new image set of your own, and a file of settings."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from imagesets.folder import checked_classes
from orchestrator.afterwards.new_folder import new_folder, refuse_used
from orchestrator.cli import paths
from orchestrator.planning.settings_file import commented_settings
from orchestrator.reading.tables import terminal, warn

EXAMPLE = ("cat", "dog")


def init(
    folder: Annotated[
        Path, typer.Argument(parser=paths.writable, metavar="DIR", help="The folder to write; it must be new or empty.")
    ],
    photographs: Annotated[Path | None, paths.option(help="Copy the images of this folder, upright.")] = None,
    labels: Annotated[
        Path | None, paths.option(help="What they show: a text or CSV file, or an export of Label Studio (.json) or CVAT (.xml).")
    ] = None,
    classes: Annotated[str, typer.Option(help="Class names, such as cat,dog. Default: those that --labels names.")] = "",
) -> None:
    """Begin an image set of your own: a folder in the layout that folder:DIR takes, and a file of settings with comments.

    A fifth of the photographs, chosen by their names, becomes the list val. Without --labels there is a table to fill in.

    Examples:

      wsss-orch init pets --photographs photographs --labels labels.csv

      wsss-orch init pets --photographs photographs --classes cat,dog

      wsss-orch init pets
    """
    from imagesets.skeleton import TABLE, left_out, photographs_in, read_labels, write_skeleton

    refuse_used(folder, str(folder))
    files = photographs_in(photographs) if photographs else {}
    given = tuple(name.strip() for name in classes.split(",") if name.strip())
    names = None
    if labels is not None:
        if not labels.is_file():
            raise WrongInput(f"--labels {labels}: there is no such file")
        names, given = read_labels(labels, given)
    elif given:
        given = checked_classes(given, Path("--classes"))
    elif photographs is not None:
        raise WrongInput("what do the photographs show? Give --labels FILE, or --classes cat,dog for a table to fill in")
    told = left_out(photographs, files, names) if photographs else []  # the new folder may be made below that of the photographs
    with new_folder(folder) as made:
        counts = write_skeleton(made, given or EXAMPLE, files, names)
        (made / "settings.yaml").write_text(commented_settings(), encoding="utf-8")
    console = terminal()
    warn(console, told)
    counted = ", ".join(f"{count} images in {name}" for name, count in counts.items())
    console.print(
        f"written  {folder} ({counted}; classes {', '.join(given or EXAMPLE)}); README.md in it says what belongs where"
    )
    if photographs is None:
        console.print(f"next     put images, lists and labels into {folder}")
    elif names is None:
        console.print(f"next     write a 1 into {folder / TABLE} where an image shows a class")
    spec = shlex.quote(f"folder:{folder}")
    console.print(f"{'then' if names is None else 'next'}     wsss-orch images check {spec}")
    settings = shlex.quote(str(folder / "settings.yaml"))
    console.print(f"then     wsss-orch launch --method cam+irn --images {spec} --recipe {settings} --segmenter upernet")
