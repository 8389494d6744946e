"""`wsss-orch predict`: a run's segmenter on the images of any folder."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options, paths
from orchestrator.reading.tables import terminal


def predict(
    run: options.Model,
    images: Annotated[Path, paths.option(help="A folder of images (JPEG, PNG, WebP, BMP, TIFF), without its subfolders.")],
    to: Annotated[Path, paths.option(parser=paths.writable, help="The folder to write; it must be new or empty.")],
    form: Annotated[
        str, typer.Option("--format", help="voc (palette PNGs), voc-server (the server's archive) or coco-rle (COCO's results).")
    ] = "voc",
    competition: options.Competition = "",
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Also write the class scores: probabilities/<id>.npz, float16 [1+classes,H,W]."),
    ] = False,
    overlays: Annotated[
        bool, typer.Option("--overlays", help="Also write the images under their segmentations: overlays/<id>.jpg.")
    ] = False,
    tile: Annotated[
        str,
        typer.Option(
            help="Segment images in overlapping windows of this number of pixels a side; auto does so with images of more than "
            "2048x2048 pixels, whole never."
        ),
    ] = "auto",
    store: options.StoreRoot = options.STORE,
) -> None:
    """Segment the images of a folder with a run's segmenter. It uses the run's test scales, mirroring and CRF.

    A method expression stands for the newest run of it, and the path of a bundle for the run in it.

    Examples:

      wsss-orch predict lpcam+amn-voc12-1a2b3c4d-0 --images photographs --to segmented

      wsss-orch predict lpcam+amn --images photographs --to segmented --probabilities --overlays

      wsss-orch predict segmenter.zip --images photographs --to segmented

      wsss-orch predict lpcam+amn-voc12-1a2b3c4d-0 --images VOC2012_test --format voc-server --to submission
    """
    from orchestrator.afterwards import predict as predicting  # loads torch
    from orchestrator.afterwards.bundle import open_model
    from orchestrator.engine.progress import Display

    opened = open_model(store.resolve(), run)
    also = predicting.Also(probabilities, overlays, int(tile) if tile.isdecimal() else tile)
    with Display(terminal()) as display:
        count = predicting.predict(opened, images, to, form, competition, display, also)
    typer.echo(f"{to}: {count} segmentations by {opened.name} as {form}")
