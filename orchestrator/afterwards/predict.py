"""Segmentations of the images of a plain folder by a finished run's segmenter."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imagesets.errors import WrongInput
from imagesets.file_check import file_problems
from imagesets.item import Item
from imagesets.lists import IMAGE_SUFFIXES
from orchestrator.afterwards.export import about_run, check_form, write
from orchestrator.afterwards.new_folder import refuse_used
from orchestrator.engine.context import for_extraction, load_network, settings_of, stored
from orchestrator.engine.job import Input
from orchestrator.engine.makers import Maker, maker_of
from orchestrator.engine.progress import Display
from orchestrator.planning import scores
from orchestrator.planning.references import resolve
from orchestrator.planning.stage import Stage
from orchestrator.reading.runs import FinishedRun
from orchestrator.storage.result import Result
from orchestrator.storage.shards import Shards
from training.stage import Context
from training.threads import set_threads


def predict(run: FinishedRun, images: Path, target: Path, form: str, competition: str, display: Display) -> int:
    """Segment every image of the folder `images` into the new folder `target`; returns the number of images.

    All problems are refused before anything is computed.
    """
    check_form(form, competition)
    refuse_used(target)
    items = images_of(images)
    stage, _ = run.made(scores.of_word("predictions"))
    source = next(source for source in stage.inputs.values() if source.recipe.network)
    _, manifest = run.result(source.name)
    about = about_run(run, scores.quantities()[scores.of_word("predictions")].many, source.name, manifest)
    about |= {"images": len(items), "settings": {**stage.settings, **stage.names}}
    display.start(stage.name, len(items), "images")
    with closing(predictor(run, *_place())) as made:

        def maps() -> Iterator[tuple[str, np.ndarray]]:
            records = chain.from_iterable(made.records(Shards(items)))
            for number, (item, record) in enumerate(zip(items, records, strict=True), 1):
                yield item.id, record["label"]
                display.update(stage.name, number)

        write(target, maps(), form, "images", competition, about)
    display.finish(stage.name, "")
    return len(items)


def images_of(folder: Path) -> list[Item]:
    """The images of a folder (not of those below it) by name, without labels.

    Raises WrongInput with all problems if images cannot be read or share an id, and if there are no images.
    """
    if not folder.is_dir():
        raise WrongInput(f"--images {folder}: there is no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise WrongInput(f"--images {folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    if problems := [*_doubled(paths), *file_problems(paths)]:
        told = "\n".join(f"  {problem}" for problem in problems)
        raise WrongInput(
            f"nothing was segmented, because {folder} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n{told}"
        )
    return [Item(path.stem, path, ()) for path in paths]


def _place() -> tuple[str, int]:
    """The device that computes, and the cores of a pipeline beside it."""
    return ("cuda", len(os.sched_getaffinity(0))) if torch.cuda.is_available() else ("cpu", 0)


def predictor(run: FinishedRun, device: str, cpus: int) -> Maker:
    """Makes the run's own segmentations, {"label": uint8 [H,W]}: with its test scales, mirror images and CRF."""
    stage, _ = run.made(scores.of_word("predictions"))
    where = torch.device(device)
    inputs = {word: _input(run, stage, word, where) for word in stage.inputs}
    settings = settings_of(stage.settings)
    set_threads(settings.extraction.threads)
    context = Context(settings, run.classes, (), (), where, inputs)
    return maker_of(stage.name, resolve(stage.recipe.call)(context), attrgetter("id"), stage.settings, device, cpus)


def _input(run: FinishedRun, stage: Stage, word: str, where: torch.device) -> Any:
    """What a stage gets as `word`: a network or a table of the classes. Results of images are refused: other images have none."""
    source = stage.inputs[word]
    folder, _ = run.result(source.name)
    if source.recipe.network:
        network = load_network(Input(Result(folder), source.recipe.network, source.settings), run.classes, where)
        return for_extraction(network, stage.settings.get("extraction.precision", "float32"), where)
    if source.recipe.over != "classes":
        raise WrongInput(f"{stage.name} reads the {word} of each image, so it can segment no images but those of the run")
    return stored(folder, source.recipe.read)


def _doubled(paths: Sequence[Path]) -> list[str]:
    count = Counter(path.stem for path in paths)
    return [f"{path} would be written to the {path.stem}.png of another image" for path in paths if count[path.stem] > 1]
