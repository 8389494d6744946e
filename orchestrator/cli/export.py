"""`wsss-orch export`: a run's pseudo masks or segmentations, or its segmenter, as files for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from imagesets.errors import WrongInput
from orchestrator.cli import options, paths
from orchestrator.planning import scores

LEAST = 32  # pixels a side of an exported model's images
MODEL, BUNDLE = "model", "bundle"  # what is written beside the quantities that are label maps


def export(
    run: options.Model,
    to: Annotated[
        Path, paths.option(parser=paths.writable, help="What to write: a folder that is new or empty, or the file of a bundle.")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="Of label maps: voc (palette PNGs; the default), voc-server (the server's archive), coco-rle (COCO's results); "
            "of a model: onnx (the default), torchscript.",
        ),
    ] = "",
    what: Annotated[
        str,
        typer.Option(
            help="What to write: pseudo (pseudo masks), seg (segmentations), model (the segmenter as a file for other programs), "
            "bundle (the run's networks, settings and scores as the file that --to names, NAME.zip)."
        ),
    ] = "pseudo",
    competition: options.Competition = "",
    size: Annotated[str, typer.Option(help="For a model: HEIGHTxWIDTH of all its images; any size by default.")] = "",
    store: options.StoreRoot = options.STORE,
) -> None:
    """Write a run's pseudo masks or segmentations to a folder, or its segmenter as a file. A note of their origin goes with them.

    Examples:

      wsss-orch export lpcam+amn-voc12-1a2b3c4d-0 --to pseudo_masks

      wsss-orch export lpcam+amn-voc12-1a2b3c4d-0 --what seg --format coco-rle --to segmentations

      wsss-orch export lpcam+amn --what model --format onnx --to segmenter

      wsss-orch export lpcam+amn --what bundle --to segmenter.zip
    """
    from orchestrator.afterwards.bundle import BundledRun, open_model, write_bundle  # loads torch

    fixed = _size(size, what)
    if competition and what in (MODEL, BUNDLE):
        raise WrongInput(f"--competition {competition} is for --format voc-server of label maps; a {what} names no competition")
    opened = open_model(store.resolve(), run, "" if what in (MODEL, BUNDLE) else what)
    if what == BUNDLE:
        if form:
            raise WrongInput(f"--format {form} is for label maps and models; a bundle has one format, so leave it out")
        typer.echo(f"{to}: {' and '.join(write_bundle(opened, to))} of {opened.name} as a bundle")
    elif what == MODEL:
        from orchestrator.afterwards.model_export import export_model

        for note in export_model(opened, to, form or "onnx", fixed):
            typer.echo(f"note: {note}")
        typer.echo(f"{to}: the segmenter of {opened.name} as {form or 'onnx'}")
    elif isinstance(opened, BundledRun):
        raise WrongInput(
            f"{run} holds networks and no {what} masks; `wsss-orch predict {run} --images DIR --to NEW` segments images"
        )
    else:
        from orchestrator.afterwards import export as exporting

        count = exporting.export(opened, to, form or "voc", what, competition)
        typer.echo(f"{to}: {count} {scores.quantities()[what].many} of {opened.name} as {form or 'voc'}")


def _size(given: str, what: str) -> tuple[int, int] | None:
    """The height and width of `--size`."""
    if not given:
        return None
    height, x, width = given.partition("x")
    if what != MODEL:
        raise WrongInput(f"--size {given} is for --what {MODEL}; label maps have the sizes of their images")
    if not (x and height.isdecimal() and width.isdecimal() and min(int(height), int(width)) >= LEAST):
        raise WrongInput(f"--size {given} is not HEIGHTxWIDTH with {LEAST} pixels a side at least, such as 512x512")
    return int(height), int(width)
