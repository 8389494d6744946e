"""Opening an image set in VOC layout, for every kind that has this layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagesets import labels
from imagesets.deep_image import NO_RULE
from imagesets.errors import WrongInput
from imagesets.files import absolute, existing
from imagesets.image_set import AUGMENTED, IMAGES, LISTS, MASKS, ImageSet
from imagesets.lists import IMAGE_SUFFIXES

USUAL_MASKS = (MASKS, AUGMENTED)  # the default, which an image set need not have


def open_layout(root: Path, settings: Mapping[str, Any], classes: Sequence[str]) -> ImageSet:
    """The image set in VOC layout at `root`.

    `settings` are those of its recipe by their bare names: `labels`, `masks` and perhaps `name`. Raises
    WrongInput if there are no image-level labels, or a folder of masks that the user names is missing.
    """
    folders = tuple(settings["masks"])
    if not folders:
        raise WrongInput("images.masks is empty; it must name at least one folder, such as SegmentationClass")
    if missing := next((folder for folder in folders if folder not in USUAL_MASKS and not (root / folder).is_dir()), None):
        raise WrongInput(f"images.masks={missing}: there is no such folder in {root}")
    source = labels.find_source(root, settings["labels"], folders)
    listed = labels.read_label_list(labels.list_of(root), classes) if source == "list" else {}
    rule = settings.get("range", NO_RULE)
    return ImageSet(name_of(root, settings), root, tuple(classes), source, folders, listed, range=(rule[0], rule[1]))


def find_root(path: str | Path, below: str = "") -> Path:
    """The folder with the VOC layout: `path` itself or its folder `below`."""
    start = existing(path, f"hold {IMAGES} and {LISTS}")
    for root in (start, start / below):
        if (root / LISTS).is_dir() and (root / IMAGES).is_dir():
            return root
    raise WrongInput(f"{start} is not in VOC layout; it needs the folders {IMAGES} and {LISTS}{_other_layout(start)}")


def _other_layout(folder: Path) -> str:
    """What a folder that is not in VOC layout may be, and how to name it; "" where nothing tells."""
    if any(folder.glob("annotations/*.json")) or any(folder.glob("*/_annotations.coco.json")):
        return f"; it has annotations as COCO has them: did you mean coco:{folder}?"
    if any(path.suffix.lower() in IMAGE_SUFFIXES for place in ("*/*", "*/*/*") for path in folder.glob(place)):
        return f"; if each of its folders is a class, did you mean folder-per-class:{folder}?"
    return ""


def name_of(path: str | Path, settings: Mapping[str, Any]) -> str:
    """The name of the image set at `path`: the setting `name`, or else the name of its folder."""
    return settings.get("name") or absolute(path).name or "images"
