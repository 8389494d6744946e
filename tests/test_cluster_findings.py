"""The messages about a cluster's nodes and jobs, without a cluster."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import grpc
import pytest

from imagesets.errors import WrongInput
from orchestrator.cluster import following, probe
from orchestrator.cluster.findings import problems
from orchestrator.cluster.nodes import Node
from orchestrator.engine.provenance import versions
from tests.conftest import Command

STORE = "/shared/store"
PACKAGES = {**dict.fromkeys(probe.PACKAGES, "1.0"), "torch": "2.9.0", "wsss-orch": "0.1.0"}
DRIVER = {"python": "3.11.7", "packages": PACKAGES, "code": "aaaa"}
FOUND = {**DRIVER, "host": "worker1", "cpus": 8, "gpus": [("NVIDIA A100", 81920)], "free": 5e11, "clock": 0.0, "store": ""}
WHOLE = Node("10.0.0.2", {"CPU": 8, "GPU": 1}, FOUND)


def found(**changed: Any) -> Node:
    return replace(WHOLE, found={**FOUND, **changed})


def test_nothing_is_wrong_with_a_node_like_the_driver() -> None:
    assert problems(DRIVER, [WHOLE, WHOLE], STORE) == []


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (Node("10.0.0.2", {}, silent="did not answer in 60 s"), "10.0.0.2: did not answer in 60 s"),
        (found(python="3.12.1"), "worker1 (10.0.0.2): Python 3.12.1, the driver has 3.11.7; install the same on every node"),
        (found(packages={**PACKAGES, "torch": "2.8.0"}), "torch 2.8.0, the driver has 2.9.0"),
        (found(packages={**PACKAGES, "numpy": "2.0"}), "numpy 2.0, the driver has 1.0"),
        (found(packages={**PACKAGES, "wsss-orch": ""}), "wsss-orch is missing, the driver has 0.1.0"),
        (found(code="bbbb"), "other code of wsss-orch (bbbb) than the driver's (aaaa)"),
        (found(store="Permission denied (a.txt)"), "/shared/store is not the driver's: Permission denied (a.txt)"),
        (replace(WHOLE, unseen=True), "the driver does not see what it writes to /shared/store"),
        (replace(WHOLE, skew=70.0), "its clock is off by 70 s"),
        (found(free=3e8), "0.3 GB are free on the disk of /shared/store"),
        (found(gpus=[]), "Ray was told of 1 GPUs, nvidia-smi shows 0"),
        (replace(WHOLE, resources={"CPU": 8}), "1 GPUs, of which Ray was told 0; start Ray there with --num-gpus=1"),
    ],
)
def test_each_thing_that_is_wrong_is_one_sentence(node: Node, sentence: str) -> None:
    (told,) = problems(DRIVER, [WHOLE, node], STORE)
    assert sentence in told


def test_versions_tell_what_decodes_images_and_computes() -> None:
    assert {"torch", "timm", "numpy", "scipy", "pillow"} < versions().keys()
    assert any(name.startswith("opencv-python") for name in versions())


def test_a_probe_runs_on_a_node_without_this_project() -> None:
    cloudpickle = pytest.importorskip("ray").cloudpickle
    cloudpickle.register_pickle_by_value(probe)
    try:
        sent = cloudpickle.dumps(probe.packages)
    finally:
        cloudpickle.unregister_pickle_by_value(probe)
    there = "import pickle, sys; sys.modules['orchestrator'] = None; print(pickle.load(sys.stdin.buffer)())"
    done = subprocess.run([sys.executable, "-c", there], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(probe.packages())


def test_a_probe_reads_the_drivers_marker_and_writes_its_own(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    place = str(tmp_path / "place")
    assert "not there" in probe.look(place, None, "token", "answer")["store"]
    (tmp_path / "place" / probe.ASKED).write_text("token")
    assert "another marker" in probe.look(place, None, "other", "answer")["store"]
    assert not (tmp_path / "place" / "answer").exists()
    assert probe.look(place, None, "token", "answer")["store"] == ""
    assert (tmp_path / "place" / "answer").read_text() == "token"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://head:8265", "wsss-orch submit --address http://head:8265 ..."),
        ("head", "neither auto nor host:port"),
        ("127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
    ],
)
def test_doctor_says_which_address_it_takes(command: Command, address: str, sentence: str) -> None:
    code, _, errors = command("doctor", "--address", address)
    assert code == 2 and sentence in errors and len(errors.partition("next: ")[0].splitlines()) == 1


class Server:
    """A job server for `logs -f`: each connection sends the output from its beginning, in chunks; some break off."""

    def __init__(self, output: str, breaks: list[int], status: str, code: int | None = None):
        self.output, self.breaks = output, breaks
        self.info = SimpleNamespace(status=following.JobStatus(status), driver_exit_code=code)

    anew = False  # whether it was started anew, and has forgotten the job

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        if self.anew:
            raise aiohttp.ClientError("404, message='Invalid response status'")
        size = 7 if len(self.breaks) % 2 else 5  # chunks need not be cut alike
        end = self.breaks.pop(0) if self.breaks else len(self.output)
        for start in range(0, end, size):
            yield self.output[start : min(start + size, end)]
        if end < len(self.output):
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_info(self, job: str) -> Any:
        if self.anew:
            raise RuntimeError("Request failed with status code 404: Job job does not exist.")
        return self.info

    def get_address(self) -> str:
        return "http://head:8265"


def test_what_a_job_prints_is_written_once_however_often_the_connection_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAUSE", 0.0)
    output = "".join(f"line {number}\n" for number in range(30))
    written, notes = list[str](), list[str]()
    info = following.follow(Server(output, [0, 13, 14, 100, 99], "FAILED", 2), "job", written.append, notes.append)  # type: ignore[arg-type]
    assert "".join(written) == output and following.exit_code(info) == 2
    assert "is lost" in notes[0] and notes[-1] == "connected again"


def test_logs_ends_in_one_sentence_if_the_server_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAUSE", 0.0)
    monkeypatch.setattr(following, "LOST", 0.05)
    with pytest.raises(WrongInput, match="has not answered for"):
        following.follow(Server("text", [1] * 10**6, "RUNNING"), "job", lambda _: None, lambda _: None)  # type: ignore[arg-type]


def test_logs_ends_at_once_if_the_cluster_was_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAUSE", 0.0)
    monkeypatch.setattr(following, "LOST", 5.0)
    server, notes = Server("text", [], "RUNNING"), list[str]()
    server.anew = True
    with pytest.raises(WrongInput, match="no longer knows job: the cluster was started again"):
        following.follow(server, "job", lambda _: None, notes.append)  # type: ignore[arg-type]
    assert len(notes) == 1


class Stopping(Server):
    """A job server that is asked to stop a job."""

    asked = False

    def stop_job(self, job: str) -> bool:
        self.asked, self.info.status = True, following.JobStatus("STOPPED")
        return True

    def get_job_logs(self, job: str) -> str:
        return self.output


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_a_job_that_has_ended_is_not_stopped_again(status: str) -> None:
    server, notes = Stopping("", [], status), list[str]()
    assert following.stop(server, "job", notes.append) == f"job has already ended: {status}"  # type: ignore[arg-type]
    assert not server.asked and not notes


def test_a_stopped_job_s_command_is_told_with_the_address() -> None:
    server, notes = Stopping(f"error: {following.CHECKPOINTED}: ...", [], "RUNNING"), list[str]()
    server.info.metadata = {"command": "launch --method cam"}
    told = following.stop(server, "job", notes.append)  # type: ignore[arg-type]
    assert (
        told == "job is stopped and checkpointed; `wsss-orch submit --address http://head:8265 launch --method cam` continues it"
    )
    assert "asked to checkpoint" in notes[0]


def test_a_quiet_connection_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAUSE", 0.0)
    monkeypatch.setattr(following, "QUIET", 0.05)

    class Quiet(Server):
        silent = True

        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            if self.silent:
                self.silent = False
                await asyncio.sleep(60)
            yield self.output

    written = list[str]()
    following.follow(Quiet("text", [], "SUCCEEDED"), "job", written.append, lambda _: None)  # type: ignore[arg-type]
    assert written == ["text"]


@pytest.mark.parametrize(
    ("status", "code", "shell"),
    [("SUCCEEDED", 0, 0), ("STOPPED", None, 130), ("FAILED", 2, 2), ("FAILED", -9, 137), ("FAILED", None, 1)],
)
def test_how_a_job_ended_is_the_exit_code(status: str, code: int | None, shell: int) -> None:
    assert following.exit_code(Server("", [], status, code).info) == shell


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "the cluster wants a token: export RAY_AUTH_MODE=token"),
        ({"authorization": "Bearer another"}, "the cluster refuses the token; RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"),
    ],
)
def test_a_head_that_refuses_the_token_is_told_at_once(
    headers: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.engine import ray_session

    # Ray reads its variables once in a process, which other tests may have changed
    monkeypatch.setattr(ray_session, "get_auth_headers_if_auth_enabled", lambda own: headers)

    def refuse(request: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")

    server = grpc.server(ThreadPoolExecutor())
    handler = grpc.unary_unary_rpc_method_handler(refuse)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("ray.rpc.NodeInfoGcsService", {"CheckAlive": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with pytest.raises(WrongInput, match=told):
        ray_session.refuse_wrong_token(f"127.0.0.1:{port}")
    server.stop(None)


@pytest.mark.parametrize(
    "words", [("launch", "--method", "cam", "--force", "cam-network"), ("sweep", "--method", "cam", "--vary", "cam.epochs=1,2")]
)
def test_a_cluster_that_does_not_answer_is_told_before_anything_is_made(
    command: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    code, _, errors = command(*words, "--address", "127.0.0.1:1", "--store", tmp_path / "store")
    assert code == 2 and "nothing answers at 127.0.0.1:1" in errors and not (tmp_path / "store").exists()
