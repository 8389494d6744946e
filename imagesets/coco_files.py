"""The files of a folder with COCO's annotations: the annotation files, the lists they stand for, and the images."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import pairwise
from pathlib import Path

from imagesets.coco import PREPARED
from imagesets.coco_annotations import Picture
from imagesets.errors import WrongInput
from imagesets.files import by_id
from imagesets.lists import IMAGE_SUFFIXES

OFFICIAL = ("instances_train2014.json", "instances_val2014.json")
# the first that has files counts
PLACES = ("annotations/instances_*.json", "annotations/*.json", "*/_annotations.coco.json", "result.json")
NUMBERED = re.compile(r"COCO_\w+_(\d{12})")  # the names of COCO 2014's images; the number alone is the name in COCO 2017


def annotation_files(root: Path, official: bool) -> dict[str, Path]:
    """The annotation files of a folder by the list they stand for; those of COCO 2014's train and val if `official`.

    The list of instances_train2017.json is train; that of a file in a folder of images has the folder's name.
    """
    if official:
        found = [path for name in OFFICIAL if (path := root / "annotations" / name).is_file()]
        needed = f"annotations/{' or '.join(OFFICIAL)}, which hold COCO 2014's lists (coco:PATH takes any annotations)"
    else:
        found = next(filter(None, (sorted(root.glob(place)) for place in PLACES)), [])
        needed = " or ".join(PLACES)
    if not found:
        raise WrongInput(f"{root} has no annotations; it needs {needed}")
    named: dict[str, Path] = {}
    for path in found:
        if (other := named.setdefault(_list_of(path), path)) != path:
            raise WrongInput(f"{other} and {path} are both of the list {_list_of(path)}; move one of them away")
    return named


def _list_of(path: Path) -> str:
    name = path.stem.removeprefix("instances_")
    return path.parent.name if name.startswith("_") else re.sub(r"(?<=\D)\d{4}$", "", name)


def located(root: Path, name: str, pictures: Sequence[Picture]) -> tuple[list[str], list[Path]]:
    """The id of each image of the list `name`, which is its file's name without suffix, and the folders that hold the files.

    Raises WrongInput if no image is there, for a name that cannot be an id, and if two folders hold the list alike.
    """
    there = {folder: by_id(folder, IMAGE_SUFFIXES).paths.keys() for folder in _folders(root)}
    for ids in ([picture.stem for picture in pictures], [_number(picture.stem) for picture in pictures]):
        if odd := [id for id in ids if len(id.split()) != 1 or id.lower().endswith(IMAGE_SUFFIXES)]:
            told = "a file's name without suffix must hold no blanks, not be empty and not end in another suffix"
            raise WrongInput(f"{root} has annotations of the image {odd[0]!r}; {told}")
        if used := _holding(there, set(ids), name):
            return ids, used
    raise WrongInput(f"{root} has none of its {len(ids)} annotated images, such as {pictures[0].file_name}, in a folder")


def _holding(there: Mapping[Path, Set[str]], ids: Set[str], name: str) -> list[Path]:
    """The folders with these images: first the one with most of them, then others with what it lacks.

    Of two with equally many the one that is called like the list counts.
    """
    rank = {folder: (len(held & ids), folder.name.startswith(name)) for folder, held in there.items()}
    ordered = sorted(rank, key=lambda folder: rank[folder], reverse=True)
    for one, other in pairwise(ordered[:2]):
        if rank[one] == rank[other] and there[one] & there[other] & ids:
            raise WrongInput(f"{one} and {other} both hold images of the list {name}; move one of the folders away")
    used, left = list[Path](), ids
    for folder in ordered:
        if there[folder] & left:
            used.append(folder)
            left = left - there[folder]
    return used


def _folders(root: Path) -> Iterator[Path]:
    """Where images may be: the folder, those in it, and those in its folder of images."""
    yield root
    for above in (root, root / "images"):
        for path in sorted(above.iterdir()) if above.is_dir() else ():
            if path.is_dir() and not path.name.startswith(PREPARED):
                yield path


def _number(stem: str) -> str:
    found = NUMBERED.fullmatch(stem)
    return found[1] if found else stem
