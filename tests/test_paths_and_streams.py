"""What every command does with a path that begins with `~`, and without standard streams."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from orchestrator.cli import app, paths
from orchestrator.cli.report import name_of
from tests.conftest import Command
from tests.launching import PROGRAM


def path_options() -> Iterator[tuple[str, click.Parameter]]:
    """Every option that takes a path, of every command, by name."""
    pending = [("", typer.main.get_command(app))]
    while pending:
        name, command = pending.pop()
        pending += [(f"{name} {each}", below) for each, below in getattr(command, "commands", {}).items()]
        for option in command.params:
            if "path" in (option.metavar or "") or type(option.type).__name__.endswith("Path"):
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


WRITTEN = ("compare --to", "report --to", "evaluate --json", "images check --bad", "images show --output")


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_cannot_be_written_is_an_error_of_the_option_before_anything_is_computed(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong, why in ((tmp_path, "is a folder"), (tmp_path / "file" / "x", f"{tmp_path / 'file'} is a file")):
        with pytest.raises(typer.BadParameter, match=why):
            OPTIONS[name].type.convert(str(wrong), None, None)
    assert OPTIONS[name].type.convert(str(tmp_path / "new" / "x"), None, None) == tmp_path / "new" / "x"


def test_files_are_written_into_new_folders(command: Command, image_set: Path, tmp_path: Path) -> None:
    images, new = f"folder:{image_set}", tmp_path / "new"
    assert command("images", "show", images, "--output", new / "a" / "sheet.png")[0] == 0
    assert command("images", "check", images, "--bad", new / "b" / "bad.txt")[0] == 0
    assert (new / "a" / "sheet.png").is_file() and (new / "b" / "bad.txt").read_text() == ""
    code, _, errors = command("images", "show", images, "--output", new / "sheet.jpg")
    assert code == 2 and "must end in .png" in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_without_permission_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert paths.unwritable(tmp_path / "a" / "b") == f"{tmp_path} is not writable"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_a_folder_whose_permissions_promise_too_much_cannot_be_written() -> None:
    assert paths.unwritable(Path("/proc/a")) == "/proc is not writable"


def test_a_link_that_leads_nowhere_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert paths.unwritable(tmp_path / "link" / "a") == f"{tmp_path / 'link'} is a link that leads nowhere"
    assert not list(tmp_path.glob("nowhere")) and paths.unwritable(tmp_path / "a" / "b") == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_standard_output_is_told(tmp_path: Path) -> None:
    ended = subprocess.run(["bash", "-c", f"{shlex.quote(str(PROGRAM))} ls > /dev/full"], capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("error: standard output cannot be written: No space left")


def test_a_store_below_a_file_is_refused_in_one_sentence(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in (("launch", "--method", "cam"), ("compare", "cam"), ("clean",)):
        code, _, errors = command(*words, "--store", tmp_path / "file" / "store")
        assert code == 2 and f"--store {tmp_path / 'file'} is a file" in errors


@pytest.mark.parametrize("name", OPTIONS)
def test_an_address_is_an_error_of_the_option_and_no_folder_of_that_name(name: str) -> None:
    for address in ("gs://bucket/x", "file:///x", "https://host/x"):
        with pytest.raises(Exception, match=f"{address} is an address"):
            OPTIONS[name].type.convert(address, None, None)
    with pytest.raises(Exception, match=r"folder:/photographs .* names a kind of image set; a path alone is right here"):
        OPTIONS[name].type.convert("folder:/photographs", None, None)


def test_nothing_but_a_store_is_written_to_a_bucket(command: Command) -> None:
    code, _, errors = command("init", "s3://bucket/x")
    assert code == 2 and "s3://bucket/x is an address, which only --store takes" in errors and not Path("s3:").exists()


@pytest.mark.parametrize(
    "words", ["clean --store LONG", "launch --method cam --images folder:LONG", "images check shapes --bad LONG", "init LONG"]
)
def test_a_name_that_is_too_long_is_refused_in_one_sentence(words: str, command: Command) -> None:
    code, _, errors = command(*words.replace("LONG", "x" * 300).split())
    assert code == 2 and "xx" in errors and "has a name that is longer than the file system allows" in errors


def test_a_page_of_many_runs_has_a_name_that_a_file_can_have() -> None:
    many = [f"lpcam+irn-vögel-1a2b3c4d-{seed}" for seed in range(40)]
    assert name_of(many[:2]) == "-".join(many[:2])
    assert len(name_of(many).encode()) < 230 and name_of(many) != name_of(many[:-1])


def test_a_path_without_a_home_is_unchanged() -> None:
    assert paths.expanded("a~b/~c") == Path("a~b/~c") and paths.expanded("s3://bucket/x") == Path("s3:/bucket/x")


@pytest.mark.parametrize(
    ("words", "closed", "code"),
    [
        ("ls", ">&-", 0),
        ("ls", "<&-", 0),
        ("ls", "<&- >&- 2>&-", 0),
        ("ls --nosuch", "2>&-", 2),
        ("ls --nosuch", "<&- >&- 2>&-", 2),
        ("show nosuch", "2>&-", 2),
        ("show nosuch", "<&- >&- 2>&-", 2),
    ],
)
def test_a_command_without_standard_streams_ends_as_with_them(words: str, closed: str, code: int, tmp_path: Path) -> None:
    shell = f"{shlex.quote(str(PROGRAM))} {words} {closed}"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == code and "Traceback" not in ended.stderr


def test_a_file_that_a_command_opens_does_not_replace_a_closed_stream(tmp_path: Path) -> None:
    program = "import sys, os; from orchestrator.cli import _open_streams; _open_streams(); file = open('mine', 'w')"
    program += "; print('lost'); sys.stdout.flush(); os.write(1, b'lost'); file.close()"
    ended = subprocess.run(["bash", "-c", f"{sys.executable} -c {shlex.quote(program)} >&-"], cwd=tmp_path)
    assert ended.returncode == 0 and (tmp_path / "mine").read_text() == ""


def test_a_working_directory_that_has_been_deleted_is_told(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, errors = command("launch", "--images", "folder:pets")
    assert (code, errors) == (
        2,
        "error: the working directory has been deleted; change to another, such as by cd ~, and call wsss-orch again\n",
    )
