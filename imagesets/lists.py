"""List files: which images are in a split."""

import os
from pathlib import Path

from imagesets.errors import WrongInput

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file that are not blank, without surrounding blanks."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors put a mark in front
    except UnicodeDecodeError:
        raise WrongInput(f"{path} is not a UTF-8 text file") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_list(path: Path) -> tuple[str, ...]:
    """Ids of a list file, one per line: a plain id, or paths of the image (and its mask), whose first gives the id."""
    return tuple(_id_of(line.split()[0]) for line in read_lines(path))


def _id_of(entry: str) -> str:
    name = entry.rsplit("/", 1)[-1]
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name
