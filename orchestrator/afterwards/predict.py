"""Segmentations of the images of a plain folder by a finished run's segmenter."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from imagesets.deep_image import DeepItem, Range
from imagesets.errors import WrongInput, named, refuse
from imagesets.file_check import file_problems, size_of
from imagesets.item import Item
from imagesets.lists import IMAGE_SUFFIXES, images_below, unread_images
from imagesets.overlay import legend, overlay
from orchestrator.afterwards.export import about_run, check_form, write
from orchestrator.afterwards.new_folder import new_folder, refuse_used
from orchestrator.afterwards.segmenter import (
    AUTO,
    SIDE,
    Tile,
    check_tile,
    context_of,
    highest,
    range_of,
    scorer_of,
    segmented,
    side_of,
)
from orchestrator.cores import cores
from orchestrator.engine.makers import Maker, maker_of
from orchestrator.engine.progress import Display
from orchestrator.planning import scores
from orchestrator.planning.references import resolve
from orchestrator.reading.runs import FinishedRun
from orchestrator.storage.shards import Shards
from training.memory import kept_memory
from training.threads import set_threads

Made = tuple[np.ndarray, np.ndarray | None]  # a label map uint8 [H,W], and the class scores float32 [L,H,W] if they are wanted


@dataclass(frozen=True)
class Also:
    """What `predict` writes beside label maps, and in which windows it segments images (see `Segmenter`)."""

    probabilities: bool = False
    overlays: bool = False
    tile: Tile = AUTO


def predict(
    run: FinishedRun, images: Path, target: Path, form: str, competition: str, display: Display, also: Also = Also()
) -> int:
    """Segment every image of the folder `images` into the new folder `target`; returns the number of images.

    All problems are refused before anything is computed.
    """
    check_form(form, competition)
    check_tile(also.tile, f"--tile {also.tile}")
    refuse_used(target)
    items = images_of(images, range_of(run))
    for sentence in _left_out(images):
        display.say(f"warning: {sentence}")
    stage = run.prediction_stage
    source = run.network_stage
    _, manifest = run.result(source.name)
    about = about_run(run, scores.quantities()[scores.of_word("predictions")].many, source.name, manifest)
    about |= {"images": len(items), "settings": {**stage.settings, **stage.names}}
    display.start(stage.name, len(items), "images")
    with new_folder(target) as folder, kept_memory():

        def maps() -> Iterator[tuple[str, np.ndarray]]:
            for number, (item, (label, found)) in enumerate(_made(run, items, also, display), 1):
                _write_beside(folder, item, label, found, also)
                yield item.id, label
                display.update(stage.name, number)

        write(folder, maps(), form, "images", competition, about)
        if also.overlays:
            legend(["background", *run.classes]).save(folder / "overlays" / "legend.png")
    display.finish(stage.name, "")
    return len(items)


def _made(run: FinishedRun, items: Sequence[Item], also: Also, display: Display) -> Iterator[tuple[Item, Made]]:
    """The label map of each image, and its class scores if they are wanted."""
    device, cpus = _place()
    windowed = _windowed(run, items, also.tile)
    if not also.probabilities and not windowed:
        with closing(predictor(run, device, cpus)) as made:
            records = chain.from_iterable(made.records(Shards(items)))
            yield from ((item, (record["label"], None)) for item, record in zip(items, records, strict=True))
        return
    if windowed and also.tile == AUTO:
        count = f"{len(windowed)} large images are" if len(windowed) > 1 else "1 large image is"
        display.say(f"{count} segmented in windows of {SIDE} pixels (--tile): {named(windowed)}")
    set_threads(run.prediction_stage.settings.get("extraction.threads", 1))
    scorer = scorer_of(run, torch.device(device))
    for item in items:
        if also.probabilities:
            found = segmented(scorer, item.rgb(), also.tile, lambda scores: scores)
            yield item, (highest(found), found)
        else:
            yield item, (segmented(scorer, item.rgb(), also.tile, highest), None)


def _windowed(run: FinishedRun, items: Sequence[Item], tile: Tile) -> list[str]:
    """The ids of the images that are segmented in windows."""
    fit = run.prediction_stage.settings.get("test_fit") or (0, 0)
    sizes = {item.id: size_of(item.image) for item in items}
    return [id for id, size in sizes.items() if size and side_of(size[::-1], fit, tile)]


def _write_beside(folder: Path, item: Item, label: np.ndarray, found: np.ndarray | None, also: Also) -> None:
    """Write the class scores of an image and its overlay, as far as they are wanted."""
    if found is not None:
        (folder / "probabilities").mkdir(exist_ok=True)
        np.savez_compressed(folder / "probabilities" / f"{item.id}.npz", probabilities=found.astype(np.float16))
    if also.overlays:
        (folder / "overlays").mkdir(exist_ok=True)
        Image.fromarray(overlay(item.rgb(), label)).save(folder / "overlays" / f"{item.id}.jpg", quality=90)


def images_of(folder: Path, range: Range) -> list[Item]:
    """The images of a folder (not of those below it) by name, without labels; `range` is the rule for more than 8 bits.

    Raises WrongInput with all problems if images cannot be read or share an id, and if there are no images.
    """
    if not folder.is_dir():
        raise WrongInput(
            f"--images {folder}: {'this is a file; give its folder' if folder.is_file() else 'there is no such folder'}"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise WrongInput("; ".join([f"--images {folder} holds no image ({', '.join(IMAGE_SUFFIXES)})", *_left_out(folder)]))
    refuse([*_doubled(paths), *file_problems(paths, range)], str(folder), outcome=", nothing was segmented")
    return [DeepItem(path.stem, path, (), range=range) for path in paths]


def _left_out(folder: Path) -> list[str]:
    """Sentences on images in other formats and in folders of the folder."""
    return [*unread_images(folder), *images_below(folder, "are not segmented")]


def _place() -> tuple[str, int]:
    """The device that computes, and the cores of a pipeline beside it."""
    return ("cuda", cores()) if torch.cuda.is_available() else ("cpu", 0)


def predictor(run: FinishedRun, device: str, cpus: int) -> Maker:
    """Makes the run's own segmentations, {"label": uint8 [H,W]}: with its test scales, mirror images and CRF."""
    stage = run.prediction_stage
    context = context_of(run, stage, torch.device(device))
    set_threads(context.settings.extraction.threads)
    return maker_of(stage.name, resolve(stage.recipe.call)(context), attrgetter("id"), stage.settings, device, cpus)


def _doubled(paths: Sequence[Path]) -> list[str]:
    count = Counter(path.stem for path in paths)
    return [f"{path} would be written to the {path.stem}.png of another image" for path in paths if count[path.stem] > 1]
