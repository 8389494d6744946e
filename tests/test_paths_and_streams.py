"""What every command does with a path that begins with `~`, and without standard streams."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from orchestrator.cli import app, paths
from tests.conftest import Command
from tests.launching import PROGRAM


def path_options() -> Iterator[tuple[str, click.Parameter]]:
    """Every option that takes a path, of every command, by name."""
    pending = [("", typer.main.get_command(app))]
    while pending:
        name, command = pending.pop()
        pending += [(f"{name} {each}", below) for each, below in getattr(command, "commands", {}).items()]
        for option in command.params:
            if "path" in (option.metavar or "") or isinstance(option.type, click.Path):
                yield f"{name} {option.opts[0]}".strip(), option


OPTIONS = dict(path_options())


def test_every_command_that_has_paths_is_looked_at() -> None:
    assert {"launch --store", "launch --exclude", "compare --to", "doctor --store", "images show --output"} <= set(OPTIONS)
    assert len(OPTIONS) > 25


@pytest.mark.parametrize("name", OPTIONS)
def test_every_path_option_expands_the_home_folder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/me")
    assert OPTIONS[name].type.convert("~/x", None, None) == Path("/people/me/x")


def test_an_unknown_home_folder_is_an_error_of_the_option(command: Command) -> None:
    code, _, errors = command("ls", "--store", "~/x")
    assert code == 2 and "No such option" in errors
    code, _, errors = command("clean", "--store", "~nobody-of-that-name/x")
    assert code == 2 and "--store" in errors and "there is no home folder of that name" in errors


def test_a_path_without_a_home_is_unchanged() -> None:
    assert paths.expanded("a~b/~c") == Path("a~b/~c") and paths.expanded("s3://bucket/x") == Path("s3:/bucket/x")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("ls", 0), ("ls --nosuch", 2), ("show nosuch", 2)])
def test_a_command_without_standard_streams_ends_as_with_them(closed: str, words: str, code: int, tmp_path: Path) -> None:
    shell = f"{shlex.quote(str(PROGRAM))} {words} {closed}"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == code and "Traceback" not in ended.stderr


def test_a_file_that_a_command_opens_does_not_replace_a_closed_stream(tmp_path: Path) -> None:
    program = "import sys, os; from orchestrator.cli import _open_streams; _open_streams(); file = open('mine', 'w')"
    program += "; print('lost'); sys.stdout.flush(); os.write(1, b'lost'); file.close()"
    ended = subprocess.run(["bash", "-c", f"{sys.executable} -c {shlex.quote(program)} >&-"], cwd=tmp_path)
    assert ended.returncode == 0 and (tmp_path / "mine").read_text() == ""
