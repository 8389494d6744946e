"""`wsss-orch export`: a run's pseudo masks or segmentations as files for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete, options, paths
from orchestrator.planning import scores

Run = Annotated[
    str,
    typer.Argument(
        help="A finished run: a folder of STORE/runs, or a method expression for the newest run of it.",
        autocompletion=complete.runs,
    ),
]
To = Annotated[Path, paths.option(parser=paths.writable, help="The folder to write; it must be new or empty.")]
Format = Annotated[
    str, typer.Option("--format", help="voc (palette PNGs), voc-server (the server's archive) or coco-rle (COCO's results).")
]
Competition = Annotated[str, typer.Option(help="For voc-server: comp5 (trained on VOC alone) or comp6.")]


def export(
    run: Run,
    to: To,
    form: Format = "voc",
    what: Annotated[str, typer.Option(help="What to write, such as pseudo (pseudo masks) or seg (segmentations).")] = "pseudo",
    competition: Competition = "comp6",
    store: options.StoreRoot = options.STORE,
) -> None:
    """Write a run's pseudo masks or segmentations to a folder. A list of their ids and a note of their origin go with them.

    Examples:

      wsss-orch export lpcam+amn-voc12-1a2b3c4d-0 --to pseudo_masks

      wsss-orch export lpcam+amn-voc12-1a2b3c4d-0 --what seg --format coco-rle --to segmentations
    """
    from orchestrator.afterwards import export as exporting  # loads NumPy
    from orchestrator.reading.groups import find_run

    opened = find_run(store.resolve(), run)
    count = exporting.export(opened, to, form, what, competition)
    typer.echo(f"{to}: {count} {scores.quantities()[what].many} of {opened.name} as {form}")
