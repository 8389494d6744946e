"""A folder that appears whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesets.errors import WrongInput


def refuse_used(target: Path, what: str = "") -> None:
    """Raise WrongInput, which calls it `what`, unless `target` is an empty folder or does not exist."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WrongInput(f"{what or f'--to {target}'} exists and is not an empty folder; give a new one")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` to write into. It becomes `target` at the end of the block; after an error it is removed."""
    target = target.expanduser().resolve()
    refuse_used(target)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    partial.mkdir(parents=True)
    try:
        yield partial
        try:
            os.rename(partial, target)
        except OSError:
            refuse_used(target)  # another process has filled it since then
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
