"""The bank of objects of CDA (`methods.cda`), cut out of label maps, and a training's sample, which brings one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from imagesets.file_check import label_problems
from imagesets.file_per_image import file_finder, folder_problems
from imagesets.image_set import MASK_SUFFIXES
from imagesets.item import VOID, Item, read_label_map
from imagesets.side_by_side import side_by_side
from methods.cda_objects import Pose, tight
from methods.recurseed_targets import recursion_problems
from training.examples import Example
from training.stage import Context

THREADS = 4  # that read label maps


def only_class(label: np.ndarray, areas: Sequence[float]) -> int | None:
    """The class index of a label map's only class if it covers a share of the image within `areas`."""
    values = [value for value in np.flatnonzero(np.bincount(label.ravel(), minlength=256)) if 0 < value < VOID]
    if len(values) == 1 and areas[0] <= float((label == values[0]).mean()) <= areas[1]:
        return int(values[0]) - 1
    return None


class Entry(NamedTuple):
    """An object of the bank: the image that shows it and its label map."""

    item: Item
    path: Path


Bank = Mapping[int, Sequence[Entry]]  # class index -> objects


def bank_of(folder: Path, items: Sequence[Item], areas: Sequence[float]) -> Bank:
    """The objects in a folder's label maps of the images `items`."""
    file_of = file_finder(folder, MASK_SUFFIXES)
    entries = [Entry(item, file_of(item.id)) for item in items]
    found: dict[int, list[Entry]] = {}
    classes = side_by_side(lambda entry: only_class(read_label_map(entry.path), areas), entries, THREADS)
    for entry, index in zip(entries, classes, strict=True):
        if index is not None:
            found.setdefault(index, []).append(entry)
    return found


def bank_problems(context: Context) -> list[str]:
    """What is wrong with the folder of label maps, before anything runs: files, sizes, labels, and no object in any."""
    settings, classes, objects = context.settings.cda, len(context.classes), list[bool]()
    if settings.bank == "none":  # objects of the decoder
        return recursion_problems(context)

    def look(path: Path, item: Item) -> list[str]:
        label = read_label_map(path)
        objects.append(only_class(label, settings.areas) is not None)
        return label_problems(path, label, item.image, classes)

    problems = folder_problems(Path(settings.bank), context.items, MASK_SUFFIXES, look)
    if not problems and not any(objects):
        needed = f"an image whose only class covers a share of it within cda.areas={settings.areas}"
        problems.append(f"the label maps in {settings.bank} have no object for cda, which is {needed}")
    return problems


@dataclass(frozen=True)
class WithObject:
    """What `sample` makes, with an object of a class that it does not show.

    `object` is RGBA uint8 [4,H,W] on a canvas of the image's size, transparent around it; `object_class` is its class index.
    Without such an object all is transparent and the class is -1.
    """

    sample: Callable[[Example, np.random.Generator], dict[str, torch.Tensor]]
    bank: Bank
    pose: Pose

    def __call__(self, example: Example, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        made = self.sample(example, rng)
        canvas, index = made["image"].shape[-2:], -1
        rgba = torch.zeros(4, *canvas, dtype=torch.uint8)
        if others := [index for index in sorted(self.bank) if not made["labels"][index]]:
            index = others[int(rng.integers(len(others)))]
            entries = self.bank[index]
            image, mask = self.pose(*_cut_out(entries[int(rng.integers(len(entries)))], index), canvas, rng.random(4).tolist())
            rgba[:3], rgba[3] = image, mask * 255
        return made | {"object": rgba, "object_class": torch.tensor(index)}


def _cut_out(entry: Entry, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tight cut of an object of the bank, uint8 [3,h,w], and its label, uint8 [h,w]."""
    label = read_label_map(entry.path)
    region = torch.from_numpy(np.where(label == index + 1, label, 0))
    rgb = torch.from_numpy(entry.item.rgb().copy()).movedim(-1, 0)
    return tight(rgb, region)
