"""A second signal, and a signal that a process ignores."""

import signal
import subprocess
import sys
import time

import psutil
import pytest
import typer

from orchestrator import cli

DEAF = """
import subprocess, sys, time
from orchestrator.engine import interrupt
interrupt.GRACE = 0.5
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with interrupt.asking(lambda: None):
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_an_exit_code_of_130_is_no_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def leave() -> None:
        raise typer.Exit(130)

    monkeypatch.setattr(cli, "app", lambda: typer.main.get_command(made)([]))
    made = typer.Typer()
    made.command()(leave)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130 and "interrupted" not in capsys.readouterr().err


@pytest.mark.parametrize("signals", [1, 2])
def test_a_launch_that_does_not_end_is_ended_with_all_it_has_started(signals: int) -> None:
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and said.startswith("stopping: ")
    assert ("not at a checkpoint" in said) == (signals == 1)
    while _lives(child):  # killed, but it may take a moment to go
        assert time.monotonic() - began < 30
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # whom init has yet to bury
    except psutil.NoSuchProcess:
        return False
