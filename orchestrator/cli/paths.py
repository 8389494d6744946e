"""Options that take a path: they expand `~`, which a shell expands only at the start of a word."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import typer

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")  # file:///..., gs://...: as a path it would be a folder with that name
S3 = "s3:/"


def expanded(given: str | Path) -> Path:
    """The path with its `~` or `~name` expanded; an error of the option if it is empty, an address, or there is no such user.

    s3://bucket/prefix may be a store.
    """
    if given == "":  # as from Python; pathlib would take the current folder
        raise typer.BadParameter("the path is empty; is it a variable that is not set?")
    if ADDRESS.match(str(given)) and not str(given).startswith(S3):
        told = "is an address, or names a kind of image set; a path alone is right here, or s3://bucket/prefix as --store"
        raise typer.BadParameter(f"{given} {told}")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise typer.BadParameter(f"{given}: there is no home folder of that name; give the path in full") from None


def writable(given: str | Path) -> Path:
    """The path of a file or folder that a command will write; an error of the option if that cannot be."""
    path = expanded(given)
    if str(given).startswith(S3):
        raise typer.BadParameter(f"{given} is an address, which only --store takes; it takes a path")
    if why := unwritable(path.absolute().parent):
        raise typer.BadParameter(f"{path} cannot be written, because {why}")
    return path


def unwritable(folder: Path) -> str:
    """Why nothing can be written to an absolute folder, which may have to be made first; "" if something can."""
    if why := no_folder(folder):
        return why
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    try:
        with TemporaryFile(dir=there):  # it leaves no trace; permissions do not tell of folders such as /proc
            return ""
    except OSError:
        return f"{there} is not writable"


def no_folder(path: Path) -> str:
    """Why a path can be no folder; "" if it is one or can be made one."""
    there = next((place for place in (path, *path.parents) if os.path.lexists(place)), None)
    if there is None or there.is_dir():
        return ""
    return f"{there} is a {'file' if there.exists() else 'link that leads nowhere'}"


def file(given: str | Path) -> Path:
    """The path of a file that a command will write."""
    path = writable(given)
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; it takes a file to write")
    return path


def option(*names: str, parser: Callable[[str | Path], Path] = expanded, **about: Any) -> Any:
    """`typer.Option` for a path; `parser` is `writable` or `file` for a path that is written."""
    return typer.Option(*names, parser=parser, metavar="<path>", **about)
