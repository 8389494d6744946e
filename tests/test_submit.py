"""`submit` before it sends: what would be sent, and what is refused in one sentence."""

import http.server
import logging
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from imagesets.errors import WrongInput
from orchestrator.cluster import probe, shipping
from orchestrator.engine import provenance
from tests.conftest import Command
from tests.mlflow_servers import free_port

PROJECT = Path(__file__).parent.parent
LAUNCH = ("launch", "--method", "cam+none", "--store", "/shared/store")
TABLE = ("table", "recam-1", "--images", "voc12:/shared/VOC2012", "--store", "/shared/store")
VERSION = '{"version": "4", "ray_version": "%s", "ray_commit": "0", "session_name": "0"}'


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The address of a server that gives every request the same answer."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_what_is_sent_is_what_a_wheel_holds() -> None:
    packaging = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    files = {path for package in packaging["packages"] for path in (PROJECT / package.replace(".", "/")).glob("*.py")}
    for package, patterns in packaging["package-data"].items():
        files |= {path for pattern in patterns for path in (PROJECT / package.replace(".", "/")).glob(pattern)}
    assert {PROJECT / path for path in probe.code_files(PROJECT)} == files


def test_code_alone_is_sent_and_it_knows_its_commit(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    beside = ("methods/big.npy", ".git/x.py", "wsss-store/a.yaml", ".venv/b.py")
    for name in ("methods/cam.py", "orchestrator/pages/page.css", *beside):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("content")
    packages = shipping.stage(tmp_path / "sent", "abc1234+", root)
    sent = {str(path.relative_to(tmp_path / "sent")) for path in (tmp_path / "sent").rglob("*") if path.is_file()}
    assert sent == {"methods/cam.py", "orchestrator/pages/page.css", "orchestrator/COMMIT"}
    assert str(tmp_path / "sent" / "methods") in packages


@pytest.mark.parametrize(("package", "its_own"), [("orchestrator", True), (".venv/lib/site-packages/orchestrator", False)])
def test_the_commit_of_a_repository_around_the_installed_code_is_not_its_commit(
    package: str, its_own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = ("-c", "user.name=A", "-c", "user.email=a@b")
    for words in (("init", "-q"), (*about, "commit", "-q", "--allow-empty", "-m", "First")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / package / "engine").mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / package / "engine" / "provenance.py"))
    assert bool(provenance.git_commit.__wrapped__()) == its_own


def test_a_carried_commit_is_the_commit(tmp_path: Path) -> None:
    shipping.stage(tmp_path, "abc1234+")
    program = "from orchestrator.engine.provenance import git_commit; print(git_commit())"
    shown = subprocess.run(
        [sys.executable, "-P", "-c", program], env={"PYTHONPATH": str(tmp_path), "PATH": ""}, capture_output=True, text=True
    )
    assert shown.stdout.strip() == "abc1234+", shown.stderr


def test_code_larger_than_ray_takes_is_refused_with_the_largest_file(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "table.py").write_bytes(b"#" * (3 << 20))
    (tmp_path / "methods" / "cam.py").write_bytes(b"#" * 10)
    with pytest.raises(WrongInput, match=r"3\.0 MiB and Ray takes 2\.0 MiB; the largest file is methods/table\.py"):
        shipping.stage(tmp_path / "sent", "", tmp_path, limit=2 << 20)
    assert not (tmp_path / "sent").exists()


def test_the_code_version_tells_one_changed_character(tmp_path: Path) -> None:
    shipping.stage(tmp_path, "")
    assert probe.code_version(tmp_path) == probe.code_version(PROJECT)
    path = tmp_path / "recipes" / "cam.yaml"
    path.write_text(path.read_text() + " ")
    assert probe.code_version(tmp_path) != probe.code_version(PROJECT)


def test_arguments_reach_the_job_as_they_were_written() -> None:
    from orchestrator.cluster.submission import Submission

    words = (*LAUNCH, "--set", 'images.training=it\'s; rm -rf $HOME `x` "y"', "--recipe", "/a b/c.yaml")
    entrypoint = Submission(words, {}).entrypoint
    shown = subprocess.run(
        ["sh", "-c", entrypoint.replace("exec python -P -m orchestrator", "printf '%s\\n'")], capture_output=True, text=True
    )
    assert shown.stdout.splitlines() == [*words, "--address", "auto"]
    assert shlex.split(entrypoint)[0] == "exec"


@pytest.mark.parametrize("uri", [("--tracking-uri", "http://me:secret@h:1"), ("--tracking-uri=http://me:secret@h:1",)])
def test_a_password_does_not_stand_in_the_command_of_a_job(uri: tuple[str, ...]) -> None:
    """Ray shows a job's command to everybody, and the values of its variables to no browser."""
    from orchestrator.cluster.submission import Submission, send

    sent: dict[str, Any] = {}

    class Client:
        def get_address(self) -> str:
            return "http://head:8265"

        def submit_job(self, **job: Any) -> str:
            sent.update(job)
            return "job"

    values = {"tracking_uri": "http://me:secret@h:1", "method": "cam+none", "images": "shapes"}
    send(Client(), Submission((*LAUNCH, *uri, "--runs", "2"), values), "0", None)  # type: ignore[arg-type]  # of a cluster
    assert sent["entrypoint"].endswith(" --store /shared/store --runs 2 --address auto")
    variables = sent["runtime_env"]["env_vars"]
    assert variables.pop("MLFLOW_TRACKING_URI") == "http://me:secret@h:1"
    assert "secret" not in str(variables | sent["metadata"]) and "http://me:***@h:1" in sent["metadata"]["command"]
    assert Submission(LAUNCH, values).variables == {}  # this shell's own variable is not the cluster's


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("head", "http://head:8265"),
        ("10.0.0.1:9000", "http://10.0.0.1:9000"),
        ("https://ray.example.org/", "https://ray.example.org"),
        ("http://head:8265", "http://head:8265"),
    ],
)
def test_an_address_may_be_a_host_a_port_or_a_url(address: str, url: str) -> None:
    from orchestrator.cluster.jobs import url_of

    assert url_of(address) == url


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("launch", "--method", "cam+none"), "--store wsss-store: a cluster needs absolute paths"),
        ((*LAUNCH, "--images", "folder:photographs"), "--images folder: photographs: a cluster needs absolute paths"),
        ((*LAUNCH, "--set", "backbone.weights=resnet.pth"), "--set backbone.weights= resnet.pth: a cluster needs"),
        ((*LAUNCH, "--maps-from", "maps"), "--maps-from maps: a cluster needs"),
        ((*LAUNCH, "--set", "training.workers=3"), "cam.batch=16 does not divide among training.workers=3"),
        ((*LAUNCH, "--until", "nosuch"), "this run has no stage 'nosuch'"),
        ((*LAUNCH, "--store", "~/store"), "~/store: ~ is another folder on a cluster's nodes"),
        ((*LAUNCH, "--set", "backbone.weights=~/x.pth"), "backbone.weights=~/x.pth: ~ is another folder"),
        ((*LAUNCH, "--tracking-uri", "sqlite:///mlflow.db"), "--tracking-uri mlflow.db: a cluster needs"),
        ((*LAUNCH, "--tracking-uri", "http://me:a/b@host"), "http://me:***@host has a password with / @ ? or # in it"),
        ((*LAUNCH, "--tracking-uri", "mlflow.example.org"), "mlflow.example.org is neither a server"),
        ((*LAUNCH, "--engine", "local"), "--engine local would run on the head node alone"),
        ((*LAUNCH, "--address", "auto"), "--address goes before the command"),
        ((*LAUNCH, "--set", "cam.epoch=3"), "there is no setting 'cam.epoch'; did you mean 'cam.epochs'?"),
        ((*LAUNCH, "--random-seeds", "1,x"), "--random-seeds 1,x is not a list"),
        (("launch", "--method", "camm", "--store", "/s"), "camm"),
        (("lunch",), "submit runs launch, sweep, table, doctor, not 'lunch'; did you mean 'launch'?"),
        (("sweep", "--method", "recam", "--vary", "recam.lambada=1,2", "--store", "/s"), "recam.lambada"),
        (
            ("sweep", "--method", "cam", "--vary", "backbone.weights=none,a.pth", "--store", "/s"),
            "--vary backbone.weights= a.pth",
        ),
        ((*TABLE, "--rows", "nosuch"), "--rows nosuch: recam-1-voc12 has no such row to run"),
        ((*TABLE, "--set", "ReCAM*:recam.epoch=3"), "there is no setting 'recam.epoch'"),
        ((*TABLE, "--set", "cam:backbone.weights=resnet.pth"), "backbone.weights= resnet.pth: a cluster needs absolute paths"),
        ((*TABLE, "--set", "K = 20:backbone.weights=a.pth"), "K = 20:backbone.weights= a.pth: a cluster needs absolute paths"),
        ((*TABLE, "--to", "table.tex"), "--to table.tex: a cluster needs absolute paths"),
        (("table", "recam-11", "--store", "/s"), "there is no table 'recam-11'; did you mean 'recam-1'?"),
        ((*LAUNCH, "--metod", "cam"), "No such option: --metod"),
    ],
)
def test_what_must_fail_is_refused_before_the_cluster_is_asked(command: Command, words: tuple[str, ...], sentence: str) -> None:
    code, _, errors = command("submit", "--address", f"127.0.0.1:{free_port()}", *words)
    assert code == 2 and sentence in errors and "Traceback" not in errors


def test_a_store_on_s3_is_left_to_the_cluster(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.cli.options.open_bucket", lambda *_: pytest.fail("it was opened here"))
    words = ("launch", "--method", "cam+none", "--store", "s3://bucket/store")
    code, _, errors = command("submit", "--address", f"127.0.0.1:{free_port()}", *words)
    assert (
        code == 2 and "paths" not in errors and "127.0.0.1" in errors
    )  # nothing was refused before the cluster was asked, and there is no cluster


@pytest.mark.parametrize(
    "words",
    [
        (*LAUNCH, "--recipe", "/shared/a.yaml", "--set", "backbone.weights=/shared/b.pth", "--images", "voc12:/shared/VOC2012"),
        (*LAUNCH, "--set", "deeplabv2.weights=/shared/b.pth", "--set", "deeplabv2.weights_saw=masks"),
        (*LAUNCH, "--maps-from", "/shared/maps", "--until", "imported-maps"),
        ("table", "lpcam-fig-5", *TABLE[2:], "--set", "K = 20:backbone.weights=/shared/b.pth"),
        ("launch", "--method", "cam+cda", "--set", "cda.bank=/shared/masks", "--store", "/s"),
        ("sweep", "--method", "cam", "--vary", "deeplabv2.weights=none,/shared/b.pth,/shared/c.pth", "--store", "/s"),
    ],
)
def test_files_that_only_the_cluster_sees_are_left_to_it(command: Command, words: tuple[str, ...]) -> None:
    code, _, errors = command("submit", "--address", f"127.0.0.1:{free_port()}", *words)
    assert code == 2 and "nothing answers at http://127.0.0.1" in errors  # so it got as far as asking


def test_a_tracking_uri_that_is_not_sent_is_not_checked(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///relative.db")
    code, _, errors = command("submit", "--address", f"127.0.0.1:{free_port()}", *LAUNCH)
    assert code == 2 and "nothing answers at http://127.0.0.1" in errors
    assert not logging.root.manager.disable  # a later launch in this process keeps its log


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (401, "no", "wants a token: export RAY_AUTH_MODE=token"),
        (403, "no", "refuses the token"),
        (200, VERSION % "2.9.9", "runs Ray 2.9.9 and this is Ray"),
        (200, "<html>", "is not Ray's job server"),
        (404, "no", "is not Ray's job server"),
        (503, "no", "is not Ray's job server"),
    ],
)
@pytest.mark.parametrize("words", [("submit", *LAUNCH), ("status",), ("logs", "job"), ("stop", "job")])
def test_a_server_that_refuses_is_told_in_one_sentence(
    command: Command, words: tuple[str, ...], status: int, body: str, sentence: str
) -> None:
    with answering(status, body) as address:
        code, _, errors = command(words[0], "--address", address, *words[1:])
    told = errors.splitlines()
    assert code == 2 and sentence in told[0] and told[1:] == [f"next: wsss-orch doctor --address {address}"]


def test_the_option_address_overrides_ray_address(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(403, "no") as address:
        monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{free_port()}")
        code, _, errors = command("status", "--address", address)
    assert code == 2 and "refuses the token" in errors


def test_a_token_that_is_asked_for_and_not_there_is_told(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = "from orchestrator.cli import main; main()"
    environment = {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(PROJECT)}
    words = [sys.executable, "-c", program, "status", "--address", f"127.0.0.1:{free_port()}"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "RAY_AUTH_MODE=token, but there is no token" in done.stderr


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            "Request failed with status code 413: Maximum request body size 104857600 exceeded.",
            "refuses the code because it is too large",
        ),
        (
            "Request failed with status code 500: No available agent to submit job, please try again later..",
            "has no node that takes jobs",
        ),
        ("Request failed with status code 500: Traceback", r"not Ray's job server \(Request failed with status code 500"),
    ],
)
def test_what_the_server_objects_to_while_a_job_is_sent_is_told(answer: str, sentence: str) -> None:
    from orchestrator.cluster.jobs import answered

    with pytest.raises(WrongInput, match=sentence), answered("http://head:8265"):
        raise RuntimeError(answer)
