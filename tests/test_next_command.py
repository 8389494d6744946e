"""The command that an error offers changes the misspelt word and no other."""

import shlex

import pytest

from orchestrator.cli.next_command import next_command
from tests.conftest import Command


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("launch --method cam+none --set cam.epochs=1 --set epochs=3", "cam.epochs=1 --set cam.epochs=3"),
        ("launch --method cam+none --set=epochs=3", "--set=cam.epochs=3"),
        ("launch --method CAM+irn", "--method cam+irn"),
    ],
)
def test_the_misspelt_word_alone_is_replaced(command: Command, words: str, right: str) -> None:
    code, _, errors = command(*shlex.split(words), "--plan")
    assert code == 2 and f"{right} --plan" in errors.splitlines()[-1], errors


def test_a_misspelt_setting_of_a_file_changes_no_word() -> None:
    message = "there is no setting 'cam'; did you mean 'cam.lr'?"
    assert next_command(["launch", "--method", "cam+none"], message) == "next: wsss-orch show cam"
