"""Files by image id, found by one listing of a folder; a file's digest; and files that are written whole or not at all."""

import hashlib
import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from imagesets.errors import WrongInput


def absolute(path: str | Path) -> Path:
    """The absolute path, with its `~` or `~name` expanded; raises WrongInput if there is no such user."""
    try:
        return Path(os.path.abspath(Path(path).expanduser()))
    except RuntimeError:
        raise WrongInput(f"{path}: there is no home folder of that name; give the path in full") from None


def existing(path: str | Path, needed: str) -> Path:
    """The absolute path of a folder; raises WrongInput, which tells what is `needed` in it, if there is no such folder."""
    folder = absolute(path)
    if not folder.is_dir():
        raise WrongInput(f"{folder} is no folder; it must {needed}")
    return folder


class Files(NamedTuple):
    """`paths` has a file by id; `doubled` has the files of ids with several; `paths` has the first of these by name."""

    paths: dict[str, str]
    doubled: dict[str, list[str]]


def by_id(folder: Path, suffixes: Sequence[str]) -> Files:
    """The files of `folder` with one of the lower-case `suffixes` (upper case counts too); none if there is no folder."""
    # one listing instead of one look-up per id: a thousand times faster on a network file system
    found = Files({}, {})
    if not folder.is_dir():
        return found
    for name in os.listdir(folder):
        id, suffix = os.path.splitext(name if name.isascii() else composed(os.fsencode(name).decode("utf-8", "surrogateescape")))
        if suffix.lower() not in suffixes:
            continue
        path = os.path.join(folder, name)
        if (other := found.paths.setdefault(id, path)) != path:
            found.doubled[id] = sorted([*found.doubled.get(id, [other]), path])
            found.paths[id] = found.doubled[id][0]  # listings have no fixed order
    return found


def refuse_other_encodings(names: Iterable[str], folder: Path) -> None:
    """Raise WrongInput for a name, found in `folder`, that is not UTF-8; archives of other systems may have some."""
    if odd := next((name for name in names if name.encode(errors="ignore").decode() != name), ""):
        raise WrongInput(f"{folder} has a file or folder whose name is not UTF-8, {odd!r}; rename it")


def composed(text: str) -> str:
    """The text with each accented letter as one character; macOS writes file names with letter and accent apart."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def merged(folders: Sequence[Files]) -> Files:
    """The files of several folders; an id with files in two of them is doubled."""
    found = Files({}, {})
    for files in folders:
        doubled = {**files.doubled, **found.doubled}
        for id in found.paths.keys() & files.paths.keys():
            doubled[id] = [*found.doubled.get(id, [found.paths[id]]), *files.doubled.get(id, [files.paths[id]])]
        found = Files({**files.paths, **found.paths}, doubled)
    return found


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which becomes `path` at the end of the block; after an error it is removed."""
    partial = path.with_name(f".{secrets.token_hex(8)}")  # a longer name than that of `path` may be too long
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
