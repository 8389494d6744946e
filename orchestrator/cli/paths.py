"""Options that take a path: they expand `~`, which a shell expands only at the start of a word."""

from pathlib import Path
from typing import Any

import typer


def expanded(given: str | Path) -> Path:
    """The path with its `~` or `~name` expanded; an error of the option if there is no such user or the path is empty."""
    if given == "":
        raise typer.BadParameter("the path is empty; is it a variable that is not set?")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise typer.BadParameter(f"{given}: there is no home folder of that name; give the path in full") from None


def option(*names: str, **about: Any) -> Any:
    """`typer.Option` for a path."""
    return typer.Option(*names, parser=expanded, metavar="<path>", **about)
