"""Your own images: a folder in VOC layout with any classes, which are named in classes.txt."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from imagesets.files import composed
from imagesets.image_set import ImageSet
from imagesets.layout import find_root, open_layout
from imagesets.lists import read_lines

CLASSES = "classes.txt"
NO_CLASS = {"background", "bg", "void", "ignore", "unlabeled", "unlabelled"}  # names of the label values 0 and 255
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f,\"]")  # control characters could not stand in an SVG or LaTeX file


def open_folder(path: str | Path, settings: Mapping[str, Any]) -> ImageSet:
    """Open the folder `path` (see `imagesets.layout.open_layout` for `settings`)."""
    root = find_root(path)
    return open_layout(root, settings, read_classes(root / CLASSES))


def read_classes(path: Path) -> tuple[str, ...]:
    """Foreground class names, one per line, which may hold blanks; the first has the label value 1.

    Raises WrongInput for lines in another format, and for what `checked_classes` refuses.
    """
    if not path.is_file():
        raise WrongInput(f"{path} is missing; it must hold the foreground class names, one per line")
    return checked_classes(read_lines(path), path)


def checked_classes(lines: Sequence[str], path: Path) -> tuple[str, ...]:
    """The foreground class names of the file `path`.

    Raises WrongInput for no, too many or repeated names, and for a name of the background.
    """
    names = tuple(map(composed, lines))
    if not 1 <= len(names) <= 254 or len(set(names)) < len(names):
        raise WrongInput(
            f"{path} must hold 1 to 254 different class names; it holds {len(names)}, {len(set(names))} of them different"
        )
    if said := _other_convention(names):
        raise WrongInput(f"{path} {said}; it must hold the foreground class names, one per line")
    return names


def found_classes(names: Sequence[str], path: Path, wanted: str) -> tuple[str, ...]:
    """Class names that were found in `path` and that nobody has listed; `wanted` tells where a list would be given.

    Raises WrongInput as `checked_classes` does, and for two names that differ in capitals alone.
    """
    alike: dict[str, str] = {}
    for name in names:
        if (other := alike.setdefault(name.casefold(), name)) != name:
            raise WrongInput(f"{path} names {other!r} and {name!r}; write them alike, or name both as classes {wanted}")
    return checked_classes(names, path)


def _other_convention(names: Sequence[str]) -> str:
    """Why the lines are no bare names of foreground classes, or ""."""
    if extra := [name for name in names if name.strip("_").lower() in NO_CLASS]:
        return f"names {extra[0]!r}, so that all label values after it would be off by one: it is no class"
    if odd := [name for name in names if FORBIDDEN.search(name) or len(name.strip().splitlines()) != 1]:
        other = "a tab, a line break or another control character"
        return f"has the name {odd[0]!r}, which is empty or holds a comma, a quotation mark, {other}"
    numbers = [int(match[1]) for name in names if (match := re.match(r"(\d+)[\s:.;=]", name))]
    if numbers in (list(range(len(names))), list(range(1, len(names) + 1))):
        return f"numbers its lines ({names[0]!r})"
    return ""
