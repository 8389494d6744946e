"""Where a private Ray keeps the files of its session, and its token."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from imagesets.errors import WrongInput
from orchestrator.engine import ray_session
from orchestrator.engine.ray_session import LONGEST

SOCKET = "/ray-12345678/session_2026-11-27_22-30-41_361108_4194304/sockets/plasma_store"  # the longest path below the folder


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's temporary folder is as before after the test, and Ray has none of its own."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())


def test_the_longest_folder_leaves_room_for_ray_s_sockets() -> None:
    assert LONGEST + len(SOCKET) <= 107


def test_a_folder_too_long_for_sockets_is_replaced(temporary: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / "of_a_job_with_a_long_name"
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    tempfile.tempdir = None
    assert tempfile.gettempdir() == str(long) and ray_session._folder() == "/tmp"


def test_a_short_folder_is_used(temporary: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        for name in ("TMPDIR", "RAY_TMPDIR"):
            monkeypatch.setenv(name, short)
            tempfile.tempdir = None
            assert ray_session._folder() == short
            monkeypatch.delenv(name)


def test_a_folder_that_was_given_for_ray_is_never_replaced(
    temporary: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    with pytest.raises(WrongInput, match=r"RAY_TMPDIR=.*/none must be a folder that can be written to"):
        ray_session._folder()
    long = tmp_path / "of_a_job_with_a_long_name"
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(WrongInput, match=rf"too long for the paths of Ray's sockets; {LONGEST} bytes are the most"):
        ray_session._folder()


def test_a_session_removes_the_folders_of_killed_launches_and_no_others(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        from orchestrator.engine import ray_session
        with ray_session._session(sys.argv[1]) as folder:
            print(folder, flush=True)
            os._exit(1)  # it ends with its folder, as by SIGKILL
    """
    killed = Path(subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True).stdout.strip())
    begins, foreign, away = (tmp_path / f"ray-{name}" for name in ("begins", "foreign", "away"))
    begins.mkdir(), foreign.mkdir(), away.mkdir(), (begins / ray_session.LOCK).touch()
    (away / ray_session.LOCK).write_text("another-host")  # whose locks may not be seen here
    assert killed.is_dir()
    with ray_session._session(str(tmp_path)) as first, ray_session._session(str(tmp_path)) as second:
        assert {path.name for path in tmp_path.iterdir()} == {
            Path(first).name,
            Path(second).name,
            begins.name,
            foreign.name,
            away.name,
        }
    assert sorted(tmp_path.iterdir()) == [away, begins, foreign]


def test_a_file_system_without_locks_has_sessions_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with ray_session._session(str(tmp_path)) as one, ray_session._session(str(tmp_path)):
        assert Path(one).is_dir()


def test_without_a_token_the_process_makes_one_and_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that the test's end removes what is made
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    tokens = ray_session.AuthenticationTokenLoader.instance()
    tokens.reset_cache()
    try:
        ray_session._ensure_token()
        assert tokens.has_token(ignore_auth_mode=True) and os.environ["RAY_AUTH_TOKEN"] and not list(tmp_path.iterdir())
    finally:
        monkeypatch.undo()
        tokens.reset_cache()


def test_a_shell_that_asks_for_another_version_of_ray_train_changes_nothing() -> None:
    environment = {**os.environ, "RAY_TRAIN_V2_ENABLED": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    words = [sys.executable, "-c", "import orchestrator.engine.ray_engine"]
    done = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
