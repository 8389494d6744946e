"""List files: which images are in a split."""

import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from imagesets.errors import WrongInput, named
from imagesets.files import composed

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
# images of cameras and of the web that are not read
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw")
FLAGS = ("-1", "0", "1")  # what a list of one class of VOC says after an id: absent, difficult, present


def unread_images(folder: Path) -> list[str]:
    """One sentence on the images of a folder in formats that are not read, or none."""
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(OTHER_SUFFIXES)) if folder.is_dir() else []
    return [f"images in {folder} in formats that are not read: {len(names)} ({named(names)})"] if names else []


def images_below(folder: Path, are_not: str) -> list[str]:
    """One sentence on the images in folders of `folder`, which "are not copied" or the like, or none."""
    below = [path for path in folder.glob("*/**/*") if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    names = sorted(str(path.relative_to(folder)) for path in below)
    return [f"images in folders of {folder} {are_not}: {len(names)} ({named(names)})"] if names else []


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file that are not blank, without surrounding blanks."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors begin a file with a mark
    except UnicodeDecodeError:
        raise WrongInput(f"{path} is not a UTF-8 text file") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_list(path: Path) -> tuple[str, ...]:
    """Ids of a list file, one per line (see `ids_of`)."""
    return tuple(ids_of(read_lines(path), path))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a UTF-8 text file with these lines."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def held_out(ids: Iterable[str], share: float = 0.2) -> set[str]:
    """A share of the images, at least one, chosen by a hash of their names: the same images whatever their order."""
    by_hash = sorted(set(ids), key=lambda id: blake2b(id.encode()).digest())
    return set(by_hash[: max(1, round(share * len(by_hash)))])


def ids_of(lines: Iterable[str], path: Path) -> Iterable[str]:
    """The ids in the lines of a list: a line is a plain id, or the path of the image (and of its mask), which gives the id.

    -1, 0 or 1 may follow, as in VOC's lists of one class. They are not read, so an image with -1 is in the list too.
    Raises WrongInput for a line with any other word, such as the second half of an id with a blank.
    """
    for line in lines:
        first, *more = line.split()
        if other := [word for word in more if not (word in FLAGS or _is_path(word))]:
            raise WrongInput(
                f"{path} has the line {line!r} with the word {other[0]!r}; a line has one id, without blanks in it, "
                "or the path of an image and of its mask"
            )
        yield id_of(first)


def id_of(entry: str) -> str:
    """The id in a plain id, a file name or a path."""
    name = composed(entry).rsplit("/", 1)[-1]
    if "." not in name:
        return name
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def entry_of(id: str, suffix: str) -> str:
    """The line of a list for an id: the id or, where `id_of` would cut it (`cat.jpg` of cat.jpg.jpg), with the file's suffix."""
    return id if id_of(id) == id else id + suffix


def _is_path(word: str) -> bool:
    return "/" in word or os.path.splitext(word)[1].lower() in IMAGE_SUFFIXES
