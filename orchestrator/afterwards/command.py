"""The command that makes a finished run again, from its results."""

import shlex
from dataclasses import replace
from pathlib import Path

from orchestrator.planning.experiment import Request, settings_given
from orchestrator.planning.settings import is_file
from orchestrator.planning.values import as_text
from orchestrator.reading.runs import FinishedRun


def request_of(run: FinishedRun) -> Request:
    """The launch that makes this run again, with an assignment for every setting that the other options do not give."""
    command, results = run.command, run.results
    preset = "" if is_file(command["recipe"]) else command["recipe"]  # the file may have changed
    exclude = Path(command["exclude"]) if command["exclude"] else None
    bare = Request(
        method=results["method"],
        images=command["images"],
        segmenter=command["segmenter"],
        recipe=preset,
        random_seed=results["random_seed"],
        store=run.store.root,
        exclude=exclude,
    )
    given = settings_given(bare)
    assignments = [
        f"{name}={as_text(value)}" for name, value in results["settings"].items() if name in given and given[name] != value
    ]
    return replace(bare, assignments=tuple(assignments))


def command_line(request: Request) -> str:
    """A request as a shell command, without --store, --engine and --track, which change no result."""
    options = {"--images": request.images, "--segmenter": request.segmenter, "--recipe": request.recipe}
    words = ["wsss-orch", "launch", "--method", request.method]
    for option, value in options.items():
        words += [option, value] if value else []
    for assignment in request.assignments:
        words += ["--set", assignment]
    words += ["--random-seed", str(request.random_seed)]
    words += ["--exclude", str(request.exclude)] if request.exclude else []
    return shlex.join(words)
