"""Results of other programs as stages of a run: a trained network, maps or pseudo masks in files.

Each stage has a second function, which says what is wrong with the files before anything runs.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from backbones.state import load_state, unusable
from backbones.weights import read_state
from imagesets.errors import WrongInput
from imagesets.file_check import label_problems, size_of
from imagesets.file_per_image import file_finder, folder_problems
from imagesets.image_set import MASK_SUFFIXES
from imagesets.item import VOID, Item, read_label_map
from maps.files import SUFFIXES, read_maps, unclipped
from maps.files import map_problems as problems_of_maps
from maps.maps import Maps
from maps.reading import as_they_are
from training.stage import Context, Records, Settings


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The label map of each image, {"label": uint8 [H,W]}, 255 for void."""
    file_of = file_finder(Path(context.settings.imported.masks), MASK_SUFFIXES)
    return lambda item: {"label": read_label_map(file_of(item.id))}


def mask_problems(context: Context) -> list[str]:
    """What is wrong with the folder of masks: missing ids, colour images, sizes, labels that do not fit, void alone."""
    folder, values = Path(context.settings.imported.masks), dict[Item, set[int]]()

    def look(path: Path, item: Item) -> list[str]:
        label = read_label_map(path)
        values[item] = set(np.unique(label).tolist())
        return label_problems(path, label, item.image, len(context.classes))

    problems = folder_problems(folder, context.items, MASK_SUFFIXES, look)
    if values and not any(found - {VOID} for found in values.values()):
        problems.append(f"no mask in {folder} has a labelled pixel: all are {VOID}, which is void")
    shown = {item: {value - 1 for value in found - {0, VOID}} for item, found in values.items()}
    if problems or not any(shown.values()):  # masks of background alone are told when they are taken in
        return problems
    rule = "the value of a pixel must be the place of its class among the classes, from 1"
    return _of_other_classes(f"mask in {folder}", shown, context.classes, rule)


def _of_other_classes(what: str, shown: Mapping[Item, set[int]], classes: Sequence[str], rule: str) -> list[str]:
    """A sentence if no file has a class of its image's labels, as where another program orders the classes otherwise."""
    labelled = sorted((item for item in shown if item.labels), key=lambda item: item.id)
    if not labelled or any(shown[item] & set(item.labels) for item in labelled):
        return []
    first, count = next((item for item in labelled if shown[item]), labelled[0]), len(labelled)
    labels, there = (" and ".join(classes[key] for key in sorted(keys)) or "none" for keys in (first.labels, shown[first]))
    told = f"such as that of {first.id} (labels {labels}; file {there})"
    return [f"no {what} has a class of its image's labels, in {count} files {told}; {rule}"]


def without_foreground(records: Records) -> list[str]:
    """A sentence if no mask shows a class; a segmenter can learn nothing but background from such masks."""
    if any(np.isin(records[id]["label"], (0, VOID), invert=True).any() for id in records):
        return []
    return [f"none of the {len(records)} imported masks shows a class: every pixel is background or void"]


def maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The maps of each image, at stride 4 and at full size."""
    file_of = file_finder(Path(context.settings.imported.maps), SUFFIXES)
    return lambda item: read_maps(file_of(item.id)).arrays()


def map_problems(context: Context) -> list[str]:
    """What is wrong with the folder of maps: missing ids, files that are not read safely, shapes, classes, values."""
    folder, shown = Path(context.settings.imported.maps), dict[Item, set[int]]()

    def look(path: Path, item: Item) -> list[str]:
        maps, size = unclipped(path), size_of(item.image)
        shown[item] = set(maps.keys.tolist())
        return problems_of_maps(path, maps, size and (size[1], size[0]), len(context.classes))

    rule = "a key must be the place of its class among the classes, from 0"
    problems = folder_problems(folder, context.items, SUFFIXES, look)
    return problems or _of_other_classes(f"file of maps in {folder}", shown, context.classes, rule)


def all_zero(records: Records) -> list[str]:
    """A sentence if no map is above 0 anywhere; seeds of such maps are background alone."""
    if any(grid.any() for id in records for grid in Maps.of(records[id], as_they_are).grids):
        return []
    return [f"none of the {len(records)} imported files of maps has a value above 0: their seeds show no class"]


def network(context: Context) -> nn.Module:
    """The network with the weights of the file; raises WrongInput if an entry does not fit.

    A network may know its authors' names for its entries (`renamed(state)`).
    """
    module, settings = context.inputs["network"], context.settings
    backbone = settings.backbone.name if isinstance(settings.backbone, Settings) else settings.backbone
    own = f"the network on the backbone {backbone.__name__} and of {len(context.classes)} classes, entry by entry"
    renamed = getattr(module, "renamed", lambda state: state)
    load_state(module, renamed(read_state(Path(settings.imported.network))), f"{settings.imported.network} does not fit {own}")
    return module


def network_problems(context: Context) -> list[str]:
    """What is wrong with the file of weights, as one sentence or none; `context.inputs` holds the untrained network."""
    path = context.settings.imported.network
    try:
        module = network(context)
    except WrongInput as error:
        return [str(error)]
    renamed = getattr(module, "renamed", lambda state: state)
    wrong = unusable(module.state_dict(), renamed(read_state(Path(path))))
    return [f"{path} cannot be used: {wrong}"] if wrong else []
