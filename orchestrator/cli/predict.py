"""`wsss-orch predict`: a run's segmenter on the images of any folder."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options, paths
from orchestrator.cli.export import Competition, Format, Run, To
from orchestrator.reading.tables import terminal


def predict(
    run: Run,
    images: Annotated[Path, paths.option(help="A folder of images (.jpg, .jpeg, .png), without its subfolders.")],
    to: To,
    form: Format = "voc",
    competition: Competition = "comp6",
    store: options.StoreRoot = options.STORE,
) -> None:
    """Segment the images of a folder with a run's segmenter. It uses the run's test scales, mirroring and CRF.

    Examples:

      wsss-orch predict lpcam+amn-voc12-1a2b3c4d-0 --images photographs --to segmented

      wsss-orch predict lpcam+amn-voc12-1a2b3c4d-0 --images VOC2012_test --format voc-server --to submission
    """
    from orchestrator.afterwards import predict as predicting  # loads torch
    from orchestrator.engine.progress import Display
    from orchestrator.reading.runs import open_run

    opened = open_run(store.resolve(), run)
    with Display(terminal()) as display:
        count = predicting.predict(opened, images, to, form, competition, display)
    typer.echo(f"{to}: {count} segmentations by {run} as {form}")
