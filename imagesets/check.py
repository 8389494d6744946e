"""Everything in an image set that is wrong or looks wrong, found in one go, one sentence each."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from imagesets.errors import WrongInput, named
from imagesets.file_check import THREADS, attempt, image_problems, label_problems
from imagesets.files import Files, by_id
from imagesets.findings import Findings, grouped
from imagesets.image_set import ImageSet
from imagesets.item import VOID, read_label_map
from imagesets.label_files import unused_columns
from imagesets.labels import list_of
from imagesets.lists import id_of, read_lines
from imagesets.side_by_side import side_by_side
from imagesets.suspicions import Classes, Suspicions

Lists = Mapping[str, Sequence[str]]  # the ids of each


def check(
    image_set: ImageSet,
    lists: Sequence[str],
    masks_of: Collection[str] = (),
    learnt: Collection[str] = ("train",),
    held_out: Collection[str] = ("val",),
    labelled: Collection[str] = (),
    decode: bool = True,
) -> Findings:
    """What is wrong with the named lists, and what is suspicious about them. Bad data never raises an error.

    Every image of the lists `masks_of` needs a mask, unless no image of the list has one. The lists `learnt` share no
    image with the lists `held_out`. Some image of each of the lists `labelled`, whose labels are learnt from, shows a class. With
    `decode` every image is decoded in full, which is the only way to find truncated files; without it only headers are read.
    """
    ids, problems = _read_lists(image_set, lists)
    images, masks = image_set.images(), image_set.masks()
    masked = {name for name in masks_of if any(id in masks.paths for id in ids.get(name, ()))}
    for name, members in ids.items():
        problems += list_problems(image_set, name, members) + image_set.image_problems(name, members, images)
        problems += image_set.mask_problems(name, members, masks) if name in masked else []
    problems += _overlaps(image_set, ids, learnt, held_out)
    everything = dict.fromkeys(id for members in ids.values() for id in members)
    wanted = {id for name in masked for id in ids[name]}
    bad = [id for id in everything if _is_amiss(id, images) or (id in wanted and _is_amiss(id, masks))]
    looks = _looks(image_set, everything, wanted, decode)
    suspicions, found = Suspicions(image_set, ids, learnt), list[tuple[str, str]]()
    for look in looks:
        suspicions.see(look.id, look.labels, look.mask)
        found += ((look.id, problem) for problem in look.problems)
    problems += suspicions.unlearnable(labelled)
    warnings = suspicions.told() + [_unscored(image_set, name) for name in masks_of if ids.get(name) and name not in masked]
    warnings += _remarks(image_set)
    warnings += [f"list {name} is both learnt from and held out" for name in ids if name in learnt and name in held_out]
    return Findings(problems + grouped(found), warnings, tuple(dict.fromkeys((*bad, *(id for id, _ in found)))))


def _is_amiss(id: str, files: Files) -> bool:
    return id not in files.paths or id in files.doubled


@dataclass
class Look:
    """The findings on one image: problems, and its classes by its labels and by its mask."""

    id: str
    problems: list[str] = field(default_factory=list)
    labels: Classes = None
    mask: Classes = None


def _looks(image_set: ImageSet, ids: Iterable[str], with_masks: Collection[str], decode: bool) -> Iterator[Look]:
    """Look at each existing image, and at its mask if it is one of `with_masks`."""
    images, masks, labels = image_set.images().paths, image_set.masks().paths, image_set.label_reader()

    def look(id: str) -> Look:
        found = Look(id)
        found.problems += attempt(id, lambda: _look_at_labels(found, labels(id)))
        if id in images:
            image = Path(images[id])
            found.problems += attempt(image, lambda: image_problems(image, decode, image_set.range))
            if id in with_masks and id in masks:
                mask = Path(masks[id])
                found.problems += attempt(mask, lambda: _look_at_mask(found, mask, image, len(image_set.classes)))
        return found

    return side_by_side(look, ids, THREADS)


def _look_at_labels(look: Look, labels: tuple[int, ...]) -> list[str]:
    look.labels = labels
    return []


def _look_at_mask(look: Look, path: Path, image: Path, classes: int) -> list[str]:
    label = read_label_map(path)
    if problems := label_problems(path, label, image, classes):
        return problems
    values = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    look.mask = tuple(int(value) - 1 for value in values if value not in (0, VOID))
    void = f"{path} is void everywhere; a mask must have at least one labelled pixel"
    return [void] if values.tolist() == [VOID] else []


def _read_lists(image_set: ImageSet, lists: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    ids: dict[str, tuple[str, ...]] = {}
    problems = []
    for name in dict.fromkeys(lists):
        try:
            ids[name] = image_set.ids(name)
        except (WrongInput, OSError) as error:
            problems.append(str(error))
    return ids, problems


def list_problems(image_set: ImageSet, name: str, ids: Sequence[str]) -> list[str]:
    """What is wrong with the ids of one list: there are none, or there is one of them twice."""
    path = image_set.list_path(name)
    if not ids and replace(image_set, excluded=frozenset()).ids(name):
        return [f"all images of {path} are excluded; a list must name at least one image"]
    if not ids:
        return [f"{path} is empty; a list must name at least one image"]
    twice = {id: count for id, count in Counter(ids).items() if count > 1}
    lines: dict[str, list[str]] = {id: [] for id in twice}
    for line in dict.fromkeys(read_lines(path)) if twice else ():
        if (id := id_of(line.split()[0])) in twice:
            lines[id].append(line)
    others = {id: f" ({named(own)})" if len(own) > 1 else "" for id, own in lines.items()}
    return grouped((id, f"{path} names the image {id} {count} times{others[id]}; once is right") for id, count in twice.items())


def _overlaps(image_set: ImageSet, ids: Lists, learnt: Collection[str], held_out: Collection[str]) -> list[str]:
    found = []
    for one, other in dict.fromkeys((one, other) for one in learnt for other in held_out if one != other):
        if shared := sorted(set(ids.get(one, ())).intersection(ids.get(other, ()))):
            where = f"{image_set.list_path(one)} and {image_set.list_path(other)}"
            found.append(f"{where} share {len(shared)} images (first: {shared[0]}); a held-out list must share none")
    return found


def _unscored(image_set: ImageSet, name: str) -> str:
    folders = " or ".join(image_set.mask_folders)
    lossy = [
        file for folder in image_set.mask_folders for file in by_id(image_set.root / folder, (".jpg", ".jpeg")).paths.values()
    ]
    told = f"; {min(lossy)} is a JPEG, which changes labels; a mask must be a PNG" if lossy else ""
    return f"no image of list {name} has a mask in {folders}, so nothing can be scored on it{told}"


def _remarks(image_set: ImageSet) -> list[str]:
    """What lies in the image set and is not read or looks like a mistake."""
    found = image_set.remarks()
    table = list_of(image_set.root) if image_set.label_source == "list" else Path()
    if table.suffix == ".csv" and (names := unused_columns(table, image_set.classes)):
        found.append(f"{table} has columns of 0 and 1 that are no class and are not read: {named(names)}")
    return found
