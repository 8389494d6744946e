"""A wrong, dead or silent tracking server costs a launch seconds, not its results. Also `track` and `ui`."""

import http.client
import os
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesets.errors import WrongInput
from orchestrator.pages.report import write_report
from orchestrator.reading.hidden import ambiguous, hidden, hidden_command, hidden_uri
from orchestrator.tracking.tracking import NotDelivered, _reason, check_tracking, database, deliver, deliver_or_say
from tests.conftest import write_image_set
from tests.finished_run import finished_run

mlflow = pytest.importorskip("mlflow")
Command = Callable[..., tuple[int, str, str]]
REFUSED = "http://127.0.0.1:1"  # where no server of a user's can listen


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run of cam+none; its images lie beside it."""
    root = tmp_path_factory.mktemp("tracking")
    write_report(*finished_run(root / "store", write_image_set(root / "images"), "cam+none"))
    return root / "store"


@pytest.fixture
def run(store: Path) -> str:
    (folder,) = (store / "runs").iterdir()
    return folder.name


@pytest.fixture
def command(command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in a shell that names no server."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return command


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def again(store: Path) -> list[object]:
    """The words of the launch whose run is in the store."""
    images = f"folder:{store.with_name('images')}"
    return ["launch", "--method", "cam+none", "--images", images, "--segmenter", "deeplabv2-small", "--store", store]


def test_a_launch_whose_server_is_dead_ends_well_and_says_how_to_deliver(command: Command, store: Path, run: str) -> None:
    code, shown, errors = command(*again(store), "--tracking-uri", REFUSED)
    (line,) = (line for line in shown.splitlines() if line.startswith("mlflow"))
    assert code == 0 and not errors and "report" in shown
    assert f"the results of {run} were not delivered to {REFUSED}: the server does not answer" in line
    assert f"`wsss-orch track {run} --tracking-uri {REFUSED} --store {store}` delivers them" in line


def test_the_environment_names_the_server_and_the_option_wins(
    command: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", REFUSED)
    assert f"not delivered to {REFUSED}" in command(*again(store))[1]
    assert "not delivered to http://127.0.0.1:2:" in command(*again(store), "--tracking-uri", "http://127.0.0.1:2")[1]


def test_a_silent_server_is_asked_once_and_not_for_long(
    store: Path, run: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # a user's own wins over ours
    import orchestrator.tracking.track  # noqa: F401 (loading MLflow takes seconds, and is not what is timed)

    began = time.monotonic()
    with pytest.raises(NotDelivered, match="does not answer"):
        deliver(store, run, silent)
    assert 1 <= time.monotonic() - began < 2  # MLflow's own way is 7 more tries, and longer pauses between them
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


@pytest.mark.parametrize(
    "sent",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"],
)
def test_a_server_that_dies_in_the_middle_of_an_answer_does_not_answer(store: Path, run: str, sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(NotDelivered, match=r": the server does not answer \(") as told:
            deliver(store, run, f"http://127.0.0.1:{listening.getsockname()[1]}")
    assert "Pool" not in str(told.value)


def test_a_database_that_cannot_be_opened_is_not_tried_for_minutes(store: Path, run: str) -> None:
    began = time.monotonic()
    with pytest.raises(NotDelivered, match="unable to open database file"):
        deliver(store, run, "sqlite:////proc/self/nowhere/mlflow.db")
    assert time.monotonic() - began < 10  # ten tries of MLflow's take 100 s


@pytest.mark.parametrize("uri", ["mlflow.example.org:5000", "ftp://mlflow.example.org", "./mlruns", "://"])
def test_what_mlflow_would_not_take_is_refused_before_anything_runs(command: Command, store: Path, uri: str) -> None:
    code, shown, errors = command(*again(store), "--tracking-uri", uri)
    assert code == 2 and not shown and "is neither a server, such as http://mlflow.example.org:5000" in errors


def test_a_uri_of_the_environment_is_refused_in_the_variable_s_name(
    command: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    for words in (again(store), ("track", "--store", store)):
        code, shown, errors = command(*words)
        assert code == 2 and not shown and "MLFLOW_TRACKING_URI=./mlruns is neither a server" in errors
    code, _, errors = command(*again(store), "--tracking-uri", "./mine")
    assert code == 2 and "--tracking-uri ./mine is neither" in errors


@pytest.mark.parametrize(
    "name", ["which?one", *(pytest.param(name, marks=pytest.mark.slow) for name in ("a b#c", "100%41", "me@host:1"))]
)
def test_a_store_of_any_name_has_its_database_and_artifacts_inside(store: Path, run: str, name: str, tmp_path: Path) -> None:
    shutil.copytree(store / "runs", tmp_path / name / "runs")
    shutil.copytree(store / "stages", tmp_path / name / "stages")
    said, new = deliver(tmp_path / name, run)
    assert new and said.startswith(f"{tmp_path / name / 'mlflow.db'}  ")
    assert (tmp_path / name / "mlflow.db").is_file() and list((tmp_path / name / "mlflow-artifacts").rglob("results.json"))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_missing_mlflow_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WrongInput, match="--track none runs without it"):
        check_tracking("")


# the text around a password; a password that occurs in this text itself cannot be tested
AROUND = "wsss-orch track '--tracking-uri=postgresql+psycopg://me:***@host:5432/name' http://"
PASSWORDS = st.text(min_size=1).filter(lambda password: password not in AROUND and password not in repr(AROUND))


@given(PASSWORDS)
def test_a_password_is_hidden_whatever_it_holds(password: str) -> None:
    for uri in (f"postgresql+psycopg://me:{password}@host:5432/name", f"http://me:{password}@host"):
        assert hidden_uri(uri) == uri.replace(f":{password}@", ":***@", 1)
        assert shlex.split(hidden_command(["wsss-orch", "track", "--tracking-uri", uri])) == [
            *("wsss-orch", "track", "--tracking-uri"),
            hidden_uri(uri),
        ]
        assert password not in hidden_command(["wsss-orch", "track", f"--tracking-uri={uri}"])


@given(st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="'\""), min_size=1))
def test_a_password_is_hidden_in_a_text_and_the_rest_stays(password: str) -> None:
    told = hidden(f"cannot reach http://me:{password}@host/x as it is down; see https://mlflow.org:443/docs")
    assert told == "cannot reach http://me:***@host/x as it is down; see https://mlflow.org:443/docs"


@pytest.mark.parametrize(
    "uri",
    ["http://host:5000", "sqlite:////a:b/c@d/mlflow.db", "https://mlflow.example.org/team@lab", "http://host:5000/"],
)
def test_a_uri_without_a_password_stays_as_it_is(uri: str) -> None:
    assert hidden_uri(uri) == hidden(uri) == uri and not ambiguous(uri)


@pytest.mark.parametrize(
    "uri", ["postgresql://host/db?user=me&password=pass1", "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dpass1%3B"]
)
def test_a_password_among_the_parameters_is_hidden_too(uri: str) -> None:
    assert "pass1" not in hidden_uri(uri) and hidden_uri(uri).startswith(uri[:18])


@pytest.mark.parametrize("password", ["se/cr", "se@cr", "1234/x@y", "a?b", "a#b", "//"])
def test_a_password_that_would_be_taken_for_the_host_is_refused_and_not_shown(
    command: Command, store: Path, password: str
) -> None:
    for words in (again(store), ("track", "--store", store)):
        code, shown, errors = command(*words, "--tracking-uri", f"postgresql://me:{password}@host/db")
        assert code == 2 and not shown and "postgresql://me:***@host/db has a password with / @ ? or # in it" in errors
        assert password not in errors.replace("/ @ ? or #", "").replace("://", "")


@pytest.mark.parametrize("words", [("ls", "--debug"), ("launch", "--track", "none")])
def test_no_error_of_a_command_shows_a_password(
    command: Command, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object, **more: object) -> None:
        raise RuntimeError("cannot reach postgresql://me:hush/hush@host/db")

    monkeypatch.setattr("orchestrator.cli.catalogue.load_all", broken)
    monkeypatch.setattr("orchestrator.cli.launch.experiment", broken)
    code, shown, errors = command(*words, *(("--method", "cam") if words[0] == "launch" else ()))
    assert code == 1 and "postgresql://me:***@host/db" in errors and "hush" not in shown + errors


@pytest.mark.parametrize("kind", ["IncompleteRead", "ProtocolError", "ReadTimeoutError", "ChunkedEncodingError"])
def test_a_server_that_ends_in_the_middle_of_an_answer_is_told_in_plain_words(kind: str) -> None:
    import requests
    import urllib3

    of = {
        "IncompleteRead": lambda: http.client.IncompleteRead(b""),
        "ProtocolError": lambda: urllib3.exceptions.ProtocolError("Connection broken"),
        "ReadTimeoutError": lambda: urllib3.exceptions.ReadTimeoutError(None, "/", "Read timed out."),  # type: ignore[arg-type]
        "ChunkedEncodingError": lambda: requests.exceptions.ChunkedEncodingError("HTTPConnectionPool(host='x')"),
    }
    told = mlflow.MlflowException("API request failed with exception HTTPConnectionPool(host='127.0.0.1', port=1)")
    told.__context__ = of[kind]()
    assert _reason(told) == "the server does not answer (it broke off the connection)"


def test_passwords_are_shown_nowhere(store: Path, run: str, caplog: pytest.LogCaptureFixture) -> None:
    assert (
        hidden("see postgresql://me:secret@host/db and http://host:5000")
        == "see postgresql://me:***@host/db and http://host:5000"
    )
    with caplog.at_level("INFO"):
        line = deliver_or_say(store, [run], "http://me:secret@127.0.0.1:1")
    assert "me:***@127.0.0.1:1" in line and "Traceback" in caplog.text
    assert "secret" not in line and "secret" not in caplog.text


def test_of_several_runs_a_dead_server_is_asked_for_the_first_alone(
    store: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(store: Path, run: str, uri: str) -> None:
        asked.append(run)
        raise NotDelivered(f"the results of {run} were not delivered to {uri}: no")

    monkeypatch.setattr("orchestrator.tracking.tracking.deliver", refuse)
    line = deliver_or_say(store, [run, "another", "a-third"], "http://127.0.0.1:1")
    assert asked == [run]
    assert line.endswith(f"`wsss-orch track --tracking-uri http://127.0.0.1:1 --store {store}` delivers them")


def test_track_delivers_what_is_not_there_once(command: Command, store: Path, run: str, empty_database: Path) -> None:
    shutil.copy(empty_database, database(store))
    code, shown, _ = command("track", "--store", store)
    assert code == 0 and shown.splitlines()[-1] == "1 delivered, 0 already there"
    code, shown, _ = command("track", run, "--store", store)
    assert code == 0 and shown.startswith(f"{run}: already there") and shown.splitlines()[-1] == "0 delivered, 1 already there"


def test_a_run_that_was_deleted_in_mlflow_is_delivered_again(store: Path, run: str, tmp_path: Path, empty_database: Path) -> None:
    uri = f"sqlite:///{shutil.copy(empty_database, tmp_path)}"
    client = mlflow.MlflowClient(tracking_uri=uri)
    assert deliver(store, run, uri)[1] and not deliver(store, run, uri)[1]
    for found in client.search_runs([client.get_experiment_by_name("images").experiment_id]):
        client.delete_run(found.info.run_id)
    assert deliver(store, run, uri)[1]


def test_track_of_a_dead_server_fails_in_one_sentence(command: Command, store: Path, run: str) -> None:
    code, shown, errors = command("track", "--store", store, "--tracking-uri", REFUSED)
    assert code == 1 and not shown and errors.count("\n") == 1
    assert f"the results of {run} were not delivered to {REFUSED}: the server does not answer" in errors


def test_a_misspelt_run_and_an_empty_store_are_refused(command: Command, store: Path, run: str, tmp_path: Path) -> None:
    code, _, errors = command("track", run[:-1] + "8", "--store", store)
    assert code == 2 and run in errors
    code, _, errors = command("track", "--store", tmp_path / "empty")
    assert code == 2 and "there is no finished run in" in errors and not (tmp_path / "empty").exists()


def test_there_is_no_ui_without_a_database_or_on_a_port_that_is_taken(command: Command, silent: str, tmp_path: Path) -> None:
    for folder, why in (("nosuch", "there is no store at"), (".", "is no store, as it has no folder stages")):
        code, _, errors = command("ui", "--store", tmp_path / folder)
        assert code == 2 and why in errors
    (tmp_path / "stages").mkdir()
    code, _, errors = command("ui", "--store", tmp_path)
    assert code == 2 and "there is no MLflow database in" in errors and "wsss-orch track" in errors
    (tmp_path / "mlflow.db").touch()
    port = silent.rpartition(":")[2]
    code, _, errors = command("ui", "--store", tmp_path, "--port", port)
    assert code == 2 and f"port {port} of 127.0.0.1 cannot be opened" in errors
