"""Preparing images with COCO's annotations: lists, image-level labels and masks, in a folder beside the images.

The folder is in VOC layout, but the images stay where they are. An interrupted preparation goes on where it was.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imagesets.coco import prepared_folder
from imagesets.coco_annotations import Annotation, Category, Picture, read_annotations
from imagesets.coco_categories import IDS, NAMES
from imagesets.coco_files import annotation_files, located
from imagesets.coco_masks import RULES, Instance, label_map
from imagesets.coco_note import Note, note_of, read_note, write_note
from imagesets.errors import WrongInput
from imagesets.files import by_id, merged
from imagesets.folder import CLASSES, checked_classes
from imagesets.image_set import LISTS, MASKS
from imagesets.item import read_label_map
from imagesets.labels import LABEL_LIST
from imagesets.lists import IMAGE_SUFFIXES, write_lines
from imagesets.palette import save_label_map

EMPTY = (b"null", b"[]")  # as tools write an object of which they know only the box
AT_ONCE = 32  # masks that a process draws before it says so

Labels = dict[str, tuple[int, ...]]  # the label values that each image shows, ascending


class Drawing(NamedTuple):
    """The mask of one image: what it shows, and the file for it."""

    path: Path
    height: int
    width: int
    instances: list[Instance]


# `spread(work, things)` is `work(thing)` of each thing, in order, perhaps in several processes
Spread = Callable[[Callable[[Sequence[Drawing]], Labels], Iterable[Sequence[Drawing]]], Iterable[Labels]]
Show = Callable[[str, int, int], None]  # of a list, how many masks are there, and of how many


def silent(name: str, done: int, total: int) -> None:
    """Show no progress."""


def prepare_coco14(path: str, settings: Mapping[str, Any], spread: Spread = map, show: Show = silent) -> list[str]:
    """Prepare COCO 2014 (see `prepare_coco`). Its 80 classes are known by their ids, whatever the annotations call them."""
    return _prepare(path, settings, spread, show, official=True)


def prepare_coco(path: str, settings: Mapping[str, Any], spread: Spread = map, show: Show = silent) -> list[str]:
    """Write lists, image-level labels and masks by the rule `settings["rule"]`; returns a sentence on each list.

    Masks that are there already stay, unless they were drawn from other annotations. Raises WrongInput for wrong annotations.
    """
    return _prepare(path, settings, spread, show, official=False)


def _prepare(path: str, settings: Mapping[str, Any], spread: Spread, show: Show, official: bool) -> list[str]:
    root, folder = prepared_folder(path, "coco14" if official else "coco", settings["rule"])
    files = annotation_files(root, official)
    note = note_of(root, settings["rule"], files.values())
    _begin(folder, note)
    labels, told, lists = Labels(), list[str](), list[ImageList]()
    for name, file in files.items():
        found = annotated_list(root, name, file, official)
        if lists and found.classes != lists[0].classes:
            raise WrongInput(f"{file} has other categories than {next(iter(files.values()))}; all lists must have the same")
        _refuse_doubled(root, [*lists, found])
        write_lines(folder / LISTS / f"{name}.txt", found.images)
        shown, drawn = draw_missing(found, folder / MASKS, note.rule, spread, partial(show, name))
        labels |= shown
        told.append(f"{name}: {len(found.images)} images; {drawn} masks written to {folder.name}/{MASKS}")
        lists.append(found._replace(images={}))  # nine tenths of a file are segmentations
    write_lines(folder / CLASSES, lists[0].classes)
    _write_labels(folder / LABEL_LIST, labels, lists[0].classes)
    folders = dict.fromkeys(place for found in lists for place in found.folders)
    write_note(folder, replace(note, folders=tuple(folders), whole=True))
    return told


def _begin(folder: Path, note: Note) -> None:
    """Make the folders, and remove masks that were drawn from annotations which have changed or are gone."""
    earlier = read_note(folder)
    if earlier and not earlier.digests.items() <= note.digests.items():
        with suppress(FileNotFoundError):  # a preparation that was killed here has removed them
            shutil.rmtree(folder / MASKS)
    for made in (folder / MASKS, folder / LISTS):
        made.mkdir(parents=True, exist_ok=True)
    write_note(folder, note)


def _refuse_doubled(root: Path, lists: Sequence["ImageList"]) -> None:
    """Raise WrongInput if an image of the last list has files of one name in two folders of the lists."""
    places = dict.fromkeys(place for found in lists for place in found.folders)
    doubled = merged([by_id(root / place, IMAGE_SUFFIXES) for place in places]).doubled
    if id := next((id for id in lists[-1].images if id in doubled), None):
        raise WrongInput(f"the image {id} has {len(doubled[id])} files, {' and '.join(doubled[id])}; each must have its own name")


class ImageList(NamedTuple):
    """A list: its images and their annotations by id, the label value of each category, the classes, the images' folders."""

    images: Mapping[str, tuple[Picture, Sequence[Annotation]]]
    values: Mapping[int, int]
    classes: tuple[str, ...]
    folders: tuple[str, ...]

    def labels(self) -> Labels:
        """The label values of each image's annotations, those of crowds as well."""
        return {id: tuple(sorted({self.values[each.category_id] for each in own})) for id, (_, own) in self.images.items()}

    def boxes_alone(self) -> bool:
        """Whether there are annotations, but none with a segmentation, so that no masks can be drawn."""
        found = [bytes(each.segmentation) in EMPTY for _, own in self.images.values() for each in own]
        return bool(found) and all(found)

    def drawing(self, id: str, path: Path) -> Drawing:
        """What is drawn of an image."""
        picture, own = self.images[id]
        instances = [
            Instance(self.values[each.category_id], bool(each.iscrowd), bytes(each.segmentation), each.id) for each in own
        ]
        return Drawing(path, picture.height, picture.width, instances)


def annotated_list(root: Path, name: str, file: Path, official: bool) -> ImageList:
    """The list `name` of an annotation file of the folder `root`; with `official` the classes are COCO's."""
    found = read_annotations(file)
    values, classes = _official(found.categories, file) if official else _ranked(found.categories, file)
    ids, folders = located(root, name, found.images)
    images = dict(zip(ids, found.by_image(), strict=True))
    return ImageList(images, values, classes, tuple(str(folder.relative_to(root)) for folder in folders))


def _official(categories: Sequence[Category], file: Path) -> tuple[dict[int, int], tuple[str, ...]]:
    if unknown := {category.id for category in categories}.difference(IDS):
        raise WrongInput(f"{file} has the category {min(unknown)}, which is none of COCO's 80; coco:PATH takes any categories")
    return {id: place for place, id in enumerate(IDS, 1)}, NAMES


def _ranked(categories: Sequence[Category], file: Path) -> tuple[dict[int, int], tuple[str, ...]]:
    """The label value of a category is its rank by id, from 1."""
    ordered = sorted(categories, key=lambda category: category.id)
    values = {category.id: place for place, category in enumerate(ordered, 1)}
    return values, checked_classes([category.name for category in ordered], file)


def draw_missing(
    found: ImageList, masks: Path, rule: str, spread: Spread, show: Callable[[int, int], None]
) -> tuple[Labels, int]:
    """Draw the masks of a list that are not in the folder `masks`; returns all image-level labels, and how many were drawn.

    None is drawn if no annotation has a segmentation, unless the rule takes the labels from the masks.
    """
    there = {path.stem for path in masks.iterdir()}
    missing = [id for id in found.images if id not in there]
    labels, from_mask, done = found.labels(), RULES[rule].labels_from_mask, 0
    if found.boxes_alone() and not from_mask:
        return labels, 0
    wanted = list(found.images) if from_mask else missing
    show(0, len(wanted))
    drawings = (found.drawing(id, masks / f"{id}.png") for id in wanted)
    for shown in spread(partial(draw, rule), iter(lambda: list(islice(drawings, AT_ONCE)), [])):
        labels |= shown if from_mask else {}
        done += len(shown)
        show(done, len(wanted))
    return labels, len(missing)


def draw(rule: str, drawings: Sequence[Drawing]) -> Labels:
    """Draw the masks that are not there; returns the label values that each mask shows."""
    return {drawing.path.stem: _draw(rule, drawing) for drawing in drawings}


def _draw(rule: str, drawing: Drawing) -> tuple[int, ...]:
    if drawing.path.is_file():
        label = read_label_map(drawing.path)
    else:
        try:
            label = label_map(rule, drawing.height, drawing.width, drawing.instances)
        except WrongInput as error:
            raise WrongInput(f"image {drawing.path.stem}: {error}") from None
        save_label_map(drawing.path, label)
    return tuple(np.flatnonzero(np.bincount(label.ravel())[1:]) + 1)


def _write_labels(path: Path, labels: Labels, classes: Sequence[str]) -> None:
    write_lines(path, ("\t".join((id, *(classes[value - 1] for value in own))) for id, own in labels.items()))
