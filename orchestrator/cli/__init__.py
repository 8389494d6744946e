"""The command line: one file per group of commands; errors a person can put right are one sentence and exit code 2."""

import os
import sys
import traceback

import typer
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.cli import catalogue, doctor, evaluate, images, launch, track, ui

# plain help text: rich help panels would double the time that --help takes
app = typer.Typer(
    help="Weakly-supervised semantic segmentation, from image-level labels to a trained segmenter, in one command.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("launch")(launch.launch)
app.command("ls")(catalogue.ls)
app.command("show")(catalogue.show)
app.add_typer(images.app, name="images")
app.command("evaluate")(evaluate.evaluate)
app.command("track")(track.track)
app.command("ui")(ui.ui)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The entry point `wsss-orch`."""
    errors = Console(stderr=True, soft_wrap=True)
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except WrongInput as error:
        code = _tell(errors, str(error), 2, debug)
    except KeyboardInterrupt:
        code = _tell(errors, "interrupted; the same command continues", 130, debug)
    except Exception as error:
        where = f" ({'; '.join(notes)})" if (notes := getattr(error, "__notes__", [])) else ""
        log = getattr(error, "log", None)
        more = f"; the whole story is in {log}" if log else "; --debug shows the traceback"
        code = _tell(errors, f"{type(error).__name__}: {' '.join(str(error).split())}{where}{more}", 1, debug)
    else:
        return
    sys.stdout.flush()
    os._exit(code) if code == 130 else sys.exit(code)


def _tell(console: Console, message: str, code: int, debug: bool) -> int:
    console.print(f"error: {message}", markup=False, highlight=False)
    if debug:
        traceback.print_exc()
    return code
