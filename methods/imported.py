"""Results of other programs as stages of a run: a trained network, maps or pseudo masks in files.

Each stage has a second function, which says what is wrong with the files before anything runs.
"""

from collections.abc import Callable
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
from maps.files import SUFFIXES, read_maps
from maps.files import map_problems as problems_of_maps
from training.stage import Context, Records, Settings


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The label map of each image, {"label": uint8 [H,W]}, 255 for void."""
    file_of = file_finder(Path(context.settings.imported.masks), MASK_SUFFIXES)
    return lambda item: {"label": read_label_map(file_of(item.id))}


def mask_problems(context: Context) -> list[str]:
    """What is wrong with the folder of masks: missing ids, colour images, sizes, labels above the classes, void alone."""
    folder, labelled = Path(context.settings.imported.masks), list[bool]()

    def look(path: Path, item: Item) -> list[str]:
        label = read_label_map(path)
        labelled.append(bool((label != VOID).any()))
        return label_problems(path, label, item.image, len(context.classes))

    problems = folder_problems(folder, context.items, MASK_SUFFIXES, look)
    if labelled and not any(labelled):
        problems.append(f"no mask in {folder} has a labelled pixel: all are {VOID}, which is void")
    return problems


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

    def look(path: Path, item: Item) -> list[str]:
        size = size_of(item.image)
        return problems_of_maps(path, size and (size[1], size[0]), len(context.classes))

    return folder_problems(Path(context.settings.imported.maps), context.items, SUFFIXES, look)


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
