"""A folder that appears whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesets.errors import WrongInput


def refuse_used(target: Path) -> None:
    """Raise WrongInput unless `target` is an empty folder or does not exist."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WrongInput(f"--to {target} is there already and not an empty folder; give one that is new")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A sibling of `target` to write into, which becomes `target` at the end of the block, or is removed if that fails."""
    target = target.expanduser().resolve()
    refuse_used(target)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    partial.mkdir(parents=True)
    try:
        yield partial
        try:
            os.rename(partial, target)
        except OSError:
            refuse_used(target)  # somebody has filled it meanwhile
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
