"""Image-level labels, from each of their three sources: VOC annotations, a list of names (also one of another program), or masks.

Labels are 0-based indices into the foreground classes, ascending. An image may have none.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from imagesets import label_files
from imagesets.errors import WrongInput
from imagesets.files import composed
from imagesets.item import VOID, read_label_map
from imagesets.lists import id_of, read_lines

ANNOTATIONS = "Annotations"
LABEL_LIST = "image_labels.txt"
EXPORTS = {  # files of other programs in its place
    "image_labels.csv": label_files.read_csv,
    "image_labels.json": label_files.read_label_studio,
    "image_labels.xml": label_files.read_cvat,
}


def list_of(root: Path) -> Path:
    """The file with the names of each image's classes, or where it would be; WrongInput if there are several."""
    found = [path for name in (LABEL_LIST, *EXPORTS) if (path := root / name).is_file()]
    if len(found) > 1:
        raise WrongInput(f"{found[0]} and {found[1].name} both hold image-level labels; keep one of them")
    return found[0] if found else root / LABEL_LIST


def read_label_list(path: Path, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The class names by image id in a label list, or in a file of another program (`EXPORTS`)."""
    return reader_of(path)(path, classes)


def reader_of(path: Path) -> Callable[[Path, Sequence[str]], dict[str, tuple[str, ...]]]:
    """The reader of a label list of any name, by its suffix: text, unless it is one of the `EXPORTS`."""
    return {Path(name).suffix: read for name, read in EXPORTS.items()}.get(path.suffix.lower(), read_names)


def find_source(root: Path, wanted: str, mask_folders: Sequence[str]) -> str:
    """The source of the image-level labels: the `wanted` one; for "auto" the first of list, annotations and masks that exists."""
    present = {
        "list": list_of(root).is_file(),
        "xml": (root / ANNOTATIONS).is_dir(),
        "masks": any((root / folder).is_dir() for folder in mask_folders),
    }
    if wanted != "auto" and wanted not in present:
        raise WrongInput(f"images.labels is {wanted!r}; it must be auto, {', '.join(present)}")
    sources = [source for source in present if present[source] and wanted in ("auto", source)]
    if not sources:
        places = {"list": " or ".join((LABEL_LIST, *EXPORTS)), "xml": f"{ANNOTATIONS}/", "masks": " or ".join(mask_folders)}
        needed = ", ".join(places.values()) if wanted == "auto" else places[wanted]
        raise WrongInput(f"{root} has no image-level labels (images.labels={wanted}): it needs {needed}")
    return sources[0]


def from_names(names: Iterable[str], classes: Sequence[str], where: object) -> tuple[int, ...]:
    """Indices of class names; an unknown name raises WrongInput, which says `where` it is."""
    names = set(map(composed, names))
    if unknown := sorted(names.difference(classes)):
        spaced = next((name for name in classes if len(name.split()) > 1), None)
        rule = f" (as {spaced!r} has a blank, a tab or a comma stands between two names)" if spaced else ""
        raise WrongInput(f"{where} names the class {unknown[0]!r}; the classes are {', '.join(classes)}{rule}")
    return tuple(sorted(map(classes.index, names)))


def from_annotation(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    """Classes of the objects in a VOC annotation, `difficult` ones included; names that are no class (parts) do not count.

    Raises WrongInput for a name that differs from a class in capitals alone.
    """
    root = label_files.read_xml(path, "not a VOC annotation")
    found = {composed((element.text or "").strip()) for element in root.iterfind("object/name")}
    small = {name.lower(): name for name in classes}
    if near := next((name for name in sorted(found.difference(classes)) if name.lower() in small), None):
        raise WrongInput(f"{path} names {near!r}; the class is {small[near.lower()]!r}, with these capitals")
    return tuple(index for index, name in enumerate(classes) if name in found)


def from_mask(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    """Classes with at least one pixel in a mask; objects without a mask are missed (VOC masks and annotations can differ)."""
    import numpy as np  # only this one of the three sources needs it

    values = np.flatnonzero(np.bincount(read_label_map(path).ravel(), minlength=256)[1:VOID]) + 1
    if values.size and values[-1] > len(classes):
        raise WrongInput(f"{path} holds the label {values[-1]}; {len(classes)} classes allow 0 to {len(classes)} and {VOID}")
    return tuple(int(value) - 1 for value in values)


def read_names(path: Path, classes: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """A label list as {image id: class names}; each line is an id and its class names, or the id alone.

    Tabs or commas separate the names. In a line with neither, blanks separate them, unless one of `classes` has a blank:
    then the rest of the line is one name. Several lines of one image are joined.
    """
    same: dict[tuple[str, ...], tuple[str, ...]] = {}  # images with the same classes share one tuple of names
    found: dict[str, tuple[str, ...]] = {}
    spaced = any(len(name.split()) > 1 for name in classes)
    for line in read_lines(path):
        entry, *own = _split(line, spaced) if spaced or "," in line or "\t" in line else line.split()
        id = id_of(entry)
        names = tuple(dict.fromkeys((*found.get(id, ()), *own)))
        found[id] = same.setdefault(names, names)
    return found


def _split(line: str, spaced: bool) -> list[str]:
    """The id and the class names of a line; `spaced` says that a name may hold a blank."""
    entry, *rest = line.split("\t", 1) if "\t" in line else re.split(r"[\s,]", line, maxsplit=1)
    names = "".join(rest)
    found = names.replace("\t", ",").split(",") if spaced or "," in names or "\t" in names else names.split()
    return [entry.strip(), *(name.strip() for name in found if name.strip())]
