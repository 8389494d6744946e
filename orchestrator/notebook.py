"""`launch` in Python: what `wsss-orch launch` does, with the results as an object that a notebook can hold."""

import io
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import typer

from imagesets.errors import WrongInput
from orchestrator.afterwards.results import Results
from orchestrator.cli import app
from orchestrator.planning.values import as_text
from orchestrator.reading.runs import open_run
from orchestrator.storage.place import STORE

USAGE: Any = typer.BadParameter.__mro__[1]  # click's UsageError; typer has a click of its own from some version on

LIST = list | tuple | range | np.ndarray
AGAIN = "WSSS_ORCH_LAUNCHED_AGAIN"  # the variable with the path of the file that a worker process makes if it launches again
UNGUARDED = (
    'a script must call launch() below the line `if __name__ == "__main__":`, '
    "because worker processes import the script and would launch again"
)


def launch(
    method: str,
    images: str = "shapes",
    *,
    settings: Mapping[str, Any] | None = None,
    store: str | Path = STORE,
    quiet: bool = False,
    **options: Any,
) -> Results:
    """Run a method, from image-level labels to a scored segmenter, or find its results in the store.

        results = launch("cam+irn", images="folder:photographs", recipe="laptop", settings={"cam.epochs": 3})

    `settings` are those of `--set`; `options` are the other options of `wsss-orch launch`, with underscores for hyphens:
    `runs=5`, `random_seeds=[0, 1]`, `segmenter="upernet"`, `engine="local"`, `track="none"`, `network_from=FILE`, `plan=True`.
    With `quiet` nothing is printed. Raises WrongInput for whatever the command refuses, and the stage's error if a run failed.
    """
    words = ["--method", method, "--images", images, "--store", str(store), *_words(settings or {}, options)]
    with _guarded(), redirect_stdout(io.StringIO()) if quiet else nullcontext():
        names = _command(words)
    root = Path(store).expanduser().resolve()
    return Results([open_run(root, name) for name in names])


@contextmanager
def _guarded() -> Iterator[None]:
    """Refuse a script whose own worker processes launch again: in the worker process, and then in the process that started it."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # set while a worker process imports the script
        if AGAIN in os.environ:
            Path(os.environ[AGAIN]).touch()
        raise WrongInput(UNGUARDED)
    with TemporaryDirectory() as folder:
        again = Path(folder) / "again"
        os.environ[AGAIN] = str(again)
        try:
            yield
        except Exception:
            if again.exists():
                raise WrongInput(UNGUARDED) from None
            raise
        finally:
            os.environ.pop(AGAIN, None)  # launches in several threads share it


def _command(words: list[str]) -> list[str]:
    """Carry out `wsss-orch launch` with these words; returns the names of the finished runs."""
    command: Any = typer.main.get_command(app)
    try:
        with command.commands["launch"].make_context("launch", words) as context:
            return command.commands["launch"].invoke(context)
    except USAGE as error:
        raise WrongInput(f"launch: {error.format_message()}") from None
    except typer.Exit as failed:
        told = "runs of some random seeds failed, and the same launch continues them:"
        raise RuntimeError("\n  ".join([told, *getattr(failed, "__notes__", ())])) from None


def _text(value: Any) -> str:
    """A value as `--set` takes it; notebooks have paths and NumPy's numbers too."""
    if isinstance(value, str | Path):
        return str(value)
    return as_text(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)


def _words(settings: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """Settings and options as words of a command line. Options that are None or False are left out."""
    for name, value in settings.items():
        yield from ("--set", f"{name}={_text(value)}")
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            yield option
        elif isinstance(value, LIST) and not len(value):
            raise WrongInput(f"launch: {name} is empty; leave it out, or give at least one value")
        elif value is not None and value is not False:
            yield from (option, ",".join(map(str, value)) if isinstance(value, LIST) else str(value))
