"""The command line: one file per group of commands. A mistake that the user can correct is one sentence and exit code 2."""

import errno
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TextIO

import typer
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.cli import (
    catalogue,
    clean,
    compare,
    doctor,
    evaluate,
    export,
    images,
    init,
    jobs,
    launch,
    predict,
    report,
    reproduce,
    status,
    submit,
    sweep,
    table,
    track,
    ui,
)
from orchestrator.cli.given_twice import Command
from orchestrator.cli.grouped import Grouped
from orchestrator.cli.next_command import next_command
from orchestrator.engine.interrupt import GIVEN, INTERRUPTED, end_at_once
from orchestrator.reading.hidden import hidden, hidden_command
from orchestrator.reading.summary import sentence
from orchestrator.reading.tables import terminal

CLUSTER = "Cluster"
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
NOTHING_GIVEN = re.compile(r"--[\w-]+=")  # an option with an empty value

app = typer.Typer(
    cls=Grouped,
    help="Weakly-supervised semantic segmentation, from image-level labels to a trained segmenter, in one command.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
GROUPS: dict[str, tuple[Callable[..., object], ...]] = {
    "Run": (init.init, launch.launch, sweep.sweep, table.table, evaluate.evaluate, doctor.doctor, clean.clean),
    "Look": (catalogue.ls, catalogue.show, table.tables, compare.compare, report.report, status.status, ui.ui),
    "Share": (export.export, predict.predict, reproduce.reproduce, track.track),
    CLUSTER: (jobs.logs, jobs.stop),
}
for title, commands in GROUPS.items():
    for command in commands:
        app.command(command.__name__, cls=Command, rich_help_panel=title)(command)
app.command(submit.submit.__name__, cls=Command, context_settings=submit.SETTINGS, rich_help_panel=CLUSTER)(submit.submit)
app.add_typer(images.app, name="images", rich_help_panel="Run")


def main() -> None:
    """The entry point `wsss-orch`."""
    _read_names_as_utf8()
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ± gets a question mark instead
    errors = terminal(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's SIGTERM is reported like Ctrl-C
    given = os.environ.get(GIVEN) or hidden_command(["wsss-orch", *sys.argv[1:]])
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        _refuse_lost_folder()
        _refuse_other_bytes(sys.argv)
        _refuse_empty(sys.argv)
        app()
    except WrongInput as error:
        code = _tell(errors, str(error), 2, debug)
    except (KeyboardInterrupt, SystemExit) as ended:  # typer turns the first into the second
        if not _interrupted(ended):
            raise
        code = _tell(errors, f"interrupted; the same command continues: {given}", INTERRUPTED, debug)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE and _is_lost(sys.stdout):
            sys.exit(_tell(errors, f"standard output cannot be written: {error.strerror}", 2, debug))
        log = getattr(error, "log", None)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and not log:
            sys.exit(_tell(errors, f"{error.filename} has a name that is longer than the file system allows", 2, debug))
        more = f"; the log has the details: {log}" if log else "; the same command with --debug shows where"
        code = _tell(errors, f"{sentence(error)}{more}", 1, debug)
    else:
        return
    sys.stdout.flush()
    end_at_once(code) if code == INTERRUPTED else sys.exit(code)


def _read_names_as_utf8() -> None:
    """Start anew in Python's UTF-8 mode where the locale has another encoding: names of files are UTF-8, as in lists.

    Otherwise an é in a name is two half characters, which no list names and no page can hold. Streams keep their encoding.
    """
    if sys.getfilesystemencoding().lower() != "utf-8":
        if sys.stdout is not None:
            os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:replace")
        os.environ["PYTHONUTF8"] = "1"  # of our processes too
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _refuse_lost_folder() -> None:
    """Raise WrongInput if the working directory has been deleted: no path could be resolved."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise WrongInput(
            "the working directory has been deleted; change to another, such as by cd ~, and call wsss-orch again"
        ) from None


def _refuse_other_bytes(words: Sequence[str]) -> None:
    """Raise WrongInput for a word that is not UTF-8: the end of a launch could not write it into a page."""
    for word in words:
        shown = word.encode(errors="replace").decode()
        if shown != word:
            raise WrongInput(f"{shown} is not UTF-8; rename that file or folder")


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise WrongInput for an empty word: it would read as an option that was not given.

    `--tracking-uri ""` means the store's own database, whatever MLFLOW_TRACKING_URI says.
    """
    for before, word in pairwise(words):
        if "--tracking-uri" not in (before, word.rstrip("=")) and (not word or NOTHING_GIVEN.fullmatch(word)):
            given = word.rstrip("=") or (before if before.startswith("-") else f"the word after {before}")
            raise WrongInput(f"{given} is empty; is it a variable that is not set?")


def _open_streams() -> None:
    """Open standard streams that lead nowhere for a process that was started without them (`>&-`, some service managers).

    Without them a message would fail, or go into a file that has the stream's number.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, mode, closefd=False, encoding="utf-8"))


def _is_lost(stream: TextIO) -> bool:
    """Whether what was printed cannot be written, such as to a full disk; it then leads nowhere, so that Python ends in peace."""
    try:
        print(file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused the error; `logs` also ends with 130 if its job was stopped."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _tell(console: Console, message: str, code: int, debug: bool) -> int:
    console.print(f"error: {hidden(message)}")
    if code == 2 and (further := next_command(sys.argv[1:], message)):
        console.print(hidden(further))
    if debug:
        console.print(hidden(traceback.format_exc()))
    return code
