"""Opening an image set: `voc12:PATH`, `folder:PATH`, or the built-in `shapes:PATH`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagesets import labels
from imagesets.errors import WrongInput
from imagesets.image_set import ANNOTATIONS, IMAGES, LABEL_LIST, LISTS, ImageSet
from imagesets.lists import read_lines

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
KINDS = ("shapes", "voc12", "folder")


def open_image_set(spec: str, settings: Mapping[str, Any]) -> ImageSet:
    """Open the image set `kind:path`: shapes (a folder that `imagesets.shapes.generate` made), voc12 or folder.

    `settings` are those that its recipe declares, by their bare names: `labels` and `masks`. Raises WrongInput for an
    unknown kind, a path without the VOC layout, class names that cannot be used, or no image-level labels.
    """
    kind, _, path = spec.partition(":")
    if kind not in KINDS or not path:
        raise WrongInput(f"there is no image set {spec!r}; it must be one of {', '.join(f'{kind}:PATH' for kind in KINDS)}")
    root = find_root(path, "VOC2012" if kind == "voc12" else "")
    classes = VOC_CLASSES if kind == "voc12" else read_classes(root / "classes.txt")
    folders = tuple(settings["masks"])
    if not folders:
        raise WrongInput("images.masks is empty; it must name at least one folder, such as SegmentationClass")
    source = label_source(root, settings["labels"], folders)
    return ImageSet(kind, root, classes, source, folders, labels.read_names(root / LABEL_LIST) if source == "list" else {})


def find_root(path: str, below: str = "") -> Path:
    """The folder with the VOC layout: `path` itself or its folder `below`."""
    start = Path(path).expanduser().absolute()
    for root in (start, start / below):
        if (root / LISTS).is_dir() and (root / IMAGES).is_dir():
            return root
    raise WrongInput(f"{start} is not in VOC layout; it needs the folders {IMAGES} and {LISTS}")


def read_classes(path: Path) -> tuple[str, ...]:
    """Foreground class names, one per line; raises WrongInput for none, too many, doubled or several-word names."""
    if not path.is_file():
        raise WrongInput(f"{path} is missing; it must hold the foreground class names, one per line")
    names = tuple(read_lines(path))
    if not 1 <= len(names) <= 254 or len(set(names)) < len(names):
        raise WrongInput(
            f"{path} must hold 1 to 254 different class names; it holds {len(names)}, {len(set(names))} of them different"
        )
    if split := [name for name in names if len(name.split()) > 1]:
        raise WrongInput(f"{path} has the class name {split[0]!r}; a name must be one word, as labels are separated by blanks")
    return names


def label_source(root: Path, wanted: str, mask_folders: tuple[str, ...]) -> str:
    """Where image-level labels come from: as `wanted`, or for "auto" the first there is of list, annotations and masks."""
    present = {
        "list": (root / LABEL_LIST).is_file(),
        "xml": (root / ANNOTATIONS).is_dir(),
        "masks": any((root / folder).is_dir() for folder in mask_folders),
    }
    if wanted != "auto" and wanted not in present:
        raise WrongInput(f"images.labels is {wanted!r}; it must be auto, {', '.join(present)}")
    sources = [source for source in present if present[source] and wanted in ("auto", source)]
    if not sources:
        places = {"list": LABEL_LIST, "xml": f"{ANNOTATIONS}/", "masks": " or ".join(mask_folders)}
        needed = ", ".join(places.values()) if wanted == "auto" else places[wanted]
        raise WrongInput(f"{root} has no image-level labels (images.labels={wanted}): it needs {needed}")
    return sources[0]
