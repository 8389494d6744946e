"""The share of an image that each of its classes covers, as an earlier network's maps tell it, or a file (Spatial-BCE)."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from imagesets.errors import WrongInput
from imagesets.files import composed
from imagesets.item import Item
from maps.labelling import to_labels, winners
from refiners import crf
from refiners.threshold import seed_background
from training.stage import Context


def areas(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The share of each class in one image, {"areas": float32 [K]}: in its seeds after the CRF."""
    settings, classes = context.settings, len(context.classes)
    parameters = crf.Parameters(**settings.crf)

    def one(item: Item) -> dict[str, np.ndarray]:
        found = context.inputs["maps"][item.id]
        seeds = winners(found.full(), seed_background(found, settings))
        label = to_labels(crf.hard(item.rgb(), seeds, len(found.keys) + 1, parameters), found.keys)
        return {"areas": np.bincount(label.ravel(), minlength=classes + 1)[1:].astype(np.float32) / np.float32(label.size)}

    return one


def first_areas(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """As `areas`, or from the file that the setting `areas` names."""
    if context.settings.areas == "none":
        return areas(context)
    table, classes = read_areas(Path(context.settings.areas), context.classes), range(len(context.classes))
    return lambda item: {"areas": np.array([table.get((item.id, key), 0.0) for key in classes], np.float32)}


def read_areas(path: Path, classes: Sequence[str]) -> dict[tuple[str, int], float]:
    """The shares of a CSV file with the columns image, class and area: (image id, class index) -> share in 0..1.

    Raises WrongInput if a line is of another form, or a class of an image has two lines.
    """
    found = dict[tuple[str, int], float]()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise WrongInput(f"{path} cannot be read as CSV ({error}); it must be a UTF-8 text") from None
    for number, row in enumerate(rows, start=2):
        try:
            place, area = (composed(row["image"]), classes.index(composed(row["class"]))), float(row["area"])
        except (KeyError, TypeError, ValueError):
            place, area = ("", 0), -1.0
        if not 0 <= area <= 1:
            raise WrongInput(f"{path}, line {number}: it must hold an image id, a class of the image set and an area in 0..1")
        if place in found:
            raise WrongInput(f"{path}, line {number}: the class {row['class']} of image {row['image']} is there twice")
        found[place] = area
    return found


def area_problems(context: Context) -> list[str]:
    """What is wrong with the file of shares: its form, labels of images that it has no share of, or shares of 0 alone."""
    path = Path(context.settings.areas)
    if str(path) == "none":
        return []
    try:
        table = read_areas(path, context.classes)
    except WrongInput as error:
        return [str(error)]
    labels = [(item.id, key) for item in context.items for key in item.labels]
    lacking = [label for label in labels if label not in table]
    if labels and not lacking and not any(table[label] for label in labels):
        return [f"{path} has the area 0 for every class of every image; an area is a share of the image's pixels, such as 0.14"]
    first = lacking and f"the first that it lacks is class {context.classes[lacking[0][1]]} in image {lacking[0][0]}"
    return [f"{path} must hold the area of every class of every image; {first}, of {len(lacking)}"] if lacking else []
