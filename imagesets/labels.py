"""Image-level labels, from each of their three sources: VOC annotations, a list of names, or masks.

Labels are 0-based indices into the foreground classes, ascending.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from imagesets.errors import WrongInput
from imagesets.item import VOID, read_label_map
from imagesets.lists import read_lines


def from_names(names: Iterable[str], classes: Sequence[str], where: object) -> tuple[int, ...]:
    """Indices of class names; a name that is no class raises WrongInput, which says `where` it stands."""
    names = set(names)
    if unknown := sorted(names.difference(classes)):
        raise WrongInput(f"{where} names the class {unknown[0]!r}; the classes are {', '.join(classes)}")
    return tuple(sorted(map(classes.index, names)))


def from_annotation(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    """Classes of the objects in a VOC annotation, `difficult` ones included; names that are no class (parts) do not count."""
    try:
        found = {element.text for element in ElementTree.parse(path).iterfind("object/name")}
    except FileNotFoundError:
        raise WrongInput(f"{path} is missing; every image of a list needs an annotation with its image-level labels") from None
    except ElementTree.ParseError as error:
        raise WrongInput(f"{path} is not a VOC annotation: {error}") from None
    return tuple(index for index, name in enumerate(classes) if name in found)


def from_mask(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    """Classes with at least one pixel in a mask; objects without a mask are missed (VOC masks and annotations can differ)."""
    import numpy as np  # of the three sources only this one needs it

    values = np.flatnonzero(np.bincount(read_label_map(path).ravel(), minlength=256)[1:VOID]) + 1
    if values.size and values[-1] > len(classes):
        raise WrongInput(f"{path} holds the label {values[-1]}; {len(classes)} classes allow 0 to {len(classes)} and {VOID}")
    return tuple(int(value) - 1 for value in values)


def read_names(path: Path) -> dict[str, tuple[str, ...]]:
    """A label list as {image id: class names}; each line is an id and its class names, separated by blanks."""
    same: dict[tuple[str, ...], tuple[str, ...]] = {}  # images of the same classes share their names
    lines = (line.split() for line in read_lines(path))
    return {words[0]: same.setdefault(names := tuple(words[1:]), names) for words in lines}
