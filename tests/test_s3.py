"""Launches to a store on S3: moto's server on loopback, one mirror for each simulated machine, a network that fails."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.storage.bucket import VARIABLE, mirror_folder
from orchestrator.storage.mirror import CACHE, FOLDERS
from orchestrator.storage.remote import address_of
from orchestrator.storage.store import read_manifest
from tests.conftest import Command, write_image_set
from tests.launching import PROGRAM, digests, finish, launch, manifests, start, wait_for
from tests.launching import command as words
from tests.s3_servers import KEYS, Proxy, bucket, proxy, s3_server
from tests.small_cluster import small_cluster

pytestmark = pytest.mark.slow
METHOD = "cam+none"
Machine = Callable[[str], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server.log") as address:
        yield address


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """An image set and the digests of a run in a local store."""
    root = tmp_path_factory.mktemp("whole")
    images = write_image_set(root / "images", train=40)
    finish(images, root / "store", "--engine", "local", method=METHOD)
    return images, digests(root / "store")


@pytest.fixture
def machine(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Run the commands that follow as a machine with mirrors of its own."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)

    def on(name: str) -> None:
        monkeypatch.setenv(VARIABLE, str(tmp_path / name))

    on("first")
    return on


def mirrored(uri: str) -> Path:
    """The mirror of a store on this machine."""
    return mirror_folder(address_of(uri))


def objects(server: str, uri: str) -> set[str]:
    """The names of a store's objects in the bucket."""
    prefix = f"{uri.removeprefix('s3://lab/')}/"
    return {found.key.removeprefix(prefix) for found in bucket(server).objects.filter(Prefix=prefix) if found.key[-1] != "/"}


def make(images: Path, uri: str, *options: str) -> subprocess.CompletedProcess[str]:
    return finish(images, uri, "--engine", "local", *options, method=METHOD)


def begin(images: Path, uri: str, *options: str) -> subprocess.Popen[str]:
    return start(images, uri, "--engine", "local", *options, method=METHOD)


def test_a_run_is_whole_in_the_bucket_and_every_machine_finds_it(
    undisturbed: tuple[Path, dict[str, str]], machine: Machine, server: str, command: Command, tmp_path: Path
) -> None:
    (images, expected), uri = undisturbed, "s3://lab/whole"
    make(images, uri)
    assert digests(mirrored(uri)) == expected
    kept = objects(server, uri)
    assert {name.rpartition("/")[2] for name in kept if name.startswith("runs/")} >= {"results.json", "report.html", "log.txt"}
    assert not [name for name in kept if name.endswith(("checkpoint.pt", "lease.json", "progress.json", "stop"))]
    assert not [name for name in kept if name.startswith(("drivers/", "images/", "ray/"))]
    machine("second")
    assert "nothing to do: all" in make(images, uri).stdout
    (run,) = (path.name for path in (mirrored(uri) / "runs").iterdir())
    shutil.rmtree(mirrored(uri))
    code, shown, errors = command("compare", METHOD, "--store", uri)
    assert code == 0 and "pseudo" in shown, errors
    assert not list(mirrored(uri).rglob("*.npz")) and not list(mirrored(uri).rglob("*.pt"))  # small files only
    code, shown, errors = command("export", run, "--to", tmp_path / "masks", "--store", uri)
    assert code == 0 and "40 pseudo masks" in shown, errors
    code, shown, errors = command("export", run, "--to", tmp_path / "more", "--store", mirrored(uri))
    assert code == 0, errors  # the mirror's path names the store too
    machine("third")
    code, shown, errors = command("doctor", "--store", uri)
    assert code == 0 and f"written, listed, read and deleted in {uri} on {server}" in shown, shown + errors
    assert objects(server, uri) == kept


def test_records_of_another_list_count_on_every_machine(undisturbed: tuple[Path, dict[str, str]], machine: Machine) -> None:
    (images, expected), uri = undisturbed, "s3://lab/lists"
    for name, step in {"some": 3, "few": 5}.items():
        (images / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(f"train_{id}" for id in range(0, 40, step)))

    def fit(name: str) -> str:
        options = ("--set", f"images.fitting={name}", "--until", "lpcam-prototypes")
        return finish(images, uri, "--engine", "local", *options, method="lpcam+none").stdout

    fit("some")
    machine("second")
    assert "cam-maps: 14 of its 40 images are taken over" in make(images, uri, "--until", "cam-maps").stdout
    made = [read_manifest(folder) or {} for folder in (mirrored(uri) / "stages").glob("cam-maps-*")]
    assert {one["items"]: one["digest"] for one in made}[40] == expected["cam-maps"]
    machine("third")
    assert "cam-maps: cached" in fit("few")  # the wide result has all of them


def test_a_launch_that_was_killed_is_continued_on_other_machines(machine: Machine, server: str, tmp_path: Path) -> None:
    images, uri = write_image_set(tmp_path / "images", train=160), "s3://lab/killed"
    options = ("--until", "cam-maps-score", "--set", "cam.scales=[1.0,2.0,3.0,4.0]")  # which take seconds
    finish(images, tmp_path / "store", "--engine", "local", *options, method=METHOD)

    def begun(stage: str, work: str) -> bool:
        ours = [name for name in objects(server, uri) if name.startswith(f"stages/{stage}-")]
        assert not any("manifest" in name for name in ours), f"{stage} was over before it could be killed"
        return any(work in name for name in ours)

    for stage, work in {"cam-network": "checkpoint.pt", "cam-maps": "shards/"}.items():
        machine(f"killed in {stage}")
        process = begin(images, uri, *options)
        wait_for(lambda stage=stage, work=work: begun(stage, work), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert stage not in manifests(mirrored(uri))
    machine("last")
    done = make(images, uri, *options)
    assert "cam-network: cached" in done.stdout and "images there already" in done.stdout
    assert digests(mirrored(uri)) == digests(tmp_path / "store")


def test_a_sweep_is_whole_in_the_bucket_and_not_made_again_elsewhere(
    undisturbed: tuple[Path, dict[str, str]], machine: Machine, server: str, command: Command
) -> None:
    images, uri = undisturbed[0], "s3://lab/sweep"
    launching = words(images, uri, "--vary", "recam.weights=w,sum", "--until", "recam-maps-score", method="recam+none")
    sweep = [*launching[:1], "sweep", *launching[2:]]
    first = subprocess.run(sweep, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stdout + first.stderr
    assert {name.split("/")[0] for name in objects(server, uri)} == {*FOLDERS, CACHE}
    machine("second")
    again = subprocess.run(sweep, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0 and "done in" not in again.stdout, again.stdout + again.stderr
    (record,) = (path.name for path in (mirrored(uri) / "sweeps").iterdir())
    machine("third")
    code, shown, errors = command("compare", record, "--store", uri)
    assert code == 0 and "recam.weights=sum" in shown, shown + errors


def test_workers_with_another_mirror_than_the_driver_make_the_same_results(
    undisturbed: tuple[Path, dict[str, str]], machine: Machine, server: str, tmp_path: Path
) -> None:
    images, uri = undisturbed[0], "s3://lab/ray"
    options = ("--set", "training.workers=2", "--until", "none-masks-score")
    finish(images, tmp_path / "local", "--engine", "local", *options, method=METHOD)
    program = f"""
import os
from orchestrator.cli import main
from orchestrator.engine.ray_engine import RayEngine
enter = RayEngine.__enter__
def elsewhere(engine):
    os.environ[{VARIABLE!r}] = {str(tmp_path / "nodes")!r}
    return enter(engine)
RayEngine.__enter__ = elsewhere
main()
"""
    launched = [sys.executable, "-c", program, *words(images, uri, *options, method=METHOD)[1:]]
    done = subprocess.run(launched, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(mirrored(uri)) == digests(tmp_path / "local")
    (node,) = (tmp_path / "nodes").iterdir()
    assert list(node.glob("stages/cam-network-*/network.pt")) and list(node.glob("stages/cam-maps-*/shards/*.npz"))
    assert not [name for name in objects(server, uri) if name.startswith("ray/")]


def test_a_second_launch_is_refused_and_readers_are_not(
    undisturbed: tuple[Path, dict[str, str]], machine: Machine, server: str, command: Command
) -> None:
    images, uri = undisturbed[0], "s3://lab/two"
    first = begin(images, uri, "--set", "cam.epochs=1000")
    wait_for(lambda: any(name.startswith("stages/") for name in objects(server, uri)), first)
    for name in ("first", "second"):
        machine(name)
        second = launch(images, uri, "--engine", "local")
        assert second.returncode == 2 and second.stderr.partition("next: ")[0].count("\n") == 1, second.stderr
        assert "in use by" in second.stderr and "one launch at a time" in second.stderr
    code, _, errors = command("clean", "--yes", "--store", uri)
    assert code == 2 and f"a launch on {socket.gethostname()}, process {first.pid}" in errors
    shown = launch(images, uri, "--plan")
    assert shown.returncode == 0 and "cam-network" in shown.stdout
    first.terminate()
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 130 and "Traceback" not in output, output
    assert not [name for name in objects(server, uri) if name.startswith("drivers/")]


def test_a_launch_that_has_lost_the_store_stops(undisturbed: tuple[Path, dict[str, str]], machine: Machine, server: str) -> None:
    images, uri = undisturbed[0], "s3://lab/lost"
    process = begin(images, uri, "--set", "cam.epochs=1000")
    wait_for(lambda: any(name.endswith("checkpoint.pt") for name in objects(server, uri)), process)
    (flag,) = (name for name in objects(server, uri) if name.startswith("drivers/"))
    bucket(server).Object(f"lost/{flag}").delete()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and f"another launch has taken over the store {uri}" in output and "Traceback" not in output
    assert not manifests(mirrored(uri)) and not [name for name in objects(server, uri) if name.startswith("drivers/")]


@pytest.fixture
def way(server: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy between this machine and the server."""
    with proxy(server) as passing:
        monkeypatch.setenv("AWS_ENDPOINT_URL", passing.address)
        yield passing


def test_a_network_that_fails_for_some_seconds_costs_only_those_seconds(
    undisturbed: tuple[Path, dict[str, str]], way: Proxy, server: str
) -> None:
    (images, expected), uri = undisturbed, "s3://lab/cut"
    process = begin(images, uri)
    for stage in ("cam-network", "cam-maps"):
        wait_for(lambda stage=stage: any(stage in name for name in objects(server, uri)), process)
        way.mode = "cut"
        time.sleep(8)
        way.mode = "pass"
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert digests(mirrored(uri)) == expected and way.cut > 0


def test_doctor_visits_the_nodes_of_a_cluster_and_leaves_nothing(
    machine: Machine, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ws-"))
    with small_cluster(folder / "ray", nodes=1) as cluster:
        doctor = [str(PROGRAM), "doctor", "--address", cluster.address, "--store", "s3://lab/doctor"]
        whole = subprocess.run(doctor, capture_output=True, text=True, timeout=120)
        assert whole.returncode == 0 and "ready, nodes: 2" in whole.stdout, whole.stdout + whole.stderr
        monkeypatch.setenv("AWS_ENDPOINT_URL", "")
        with monkeypatch.context() as without:
            for name in KEYS:
                without.delenv(name)
            without.setenv("AWS_EC2_METADATA_DISABLED", "true")
            cluster.add()
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        found = subprocess.run(doctor, capture_output=True, text=True, timeout=120)
        assert found.returncode == 1 and "not ready: 1" in found.stdout and "s3://lab/doctor is not the driver's" in found.stdout
        missing = subprocess.run([*doctor[:-1], "s3://nowhere/doctor"], capture_output=True, text=True, timeout=120)
        assert missing.returncode == 2 and "there is no bucket nowhere" in missing.stderr
    assert not objects(server, "s3://lab/doctor")
    shutil.rmtree(folder)


def test_a_server_that_refuses_is_told_in_one_sentence_before_anything_runs(image_set: Path, way: Proxy) -> None:
    refusals = {"deny": ("s3://lab/denied", "s3://lab/denied cannot be used"), "pass": ("s3://other/store", "no bucket other")}
    for way.mode, (store, why) in refusals.items():
        refused = launch(image_set, store, "--engine", "local")
        sentence = refused.stderr.partition("next: ")[0]
        assert refused.returncode == 2 and sentence.count("\n") == 1 and why in sentence


def test_what_clean_removes_is_gone_for_every_machine(
    undisturbed: tuple[Path, dict[str, str]], machine: Machine, server: str, command: Command
) -> None:
    images, uri = undisturbed[0], "s3://lab/cleaned"
    make(images, uri, "--until", "cam-maps")
    kept = objects(server, uri)
    for name in [name for name in kept if name.startswith("runs/")]:  # so that nothing refers to the stages
        bucket(server).Object(f"cleaned/{name}").delete()
    machine("second")
    code, shown, errors = command("clean", "--store", uri)
    assert code == 0 and "cam-network" in shown and "cam-maps" in shown, shown + errors
    sizes = {found.key: found.size for found in bucket(server).objects.filter(Prefix="cleaned/stages/")}
    assert f"removes these 2: {sum(sizes.values()) / 1e6:.1f} MB" in shown
    code, shown, errors = command("clean", "--yes", "--store", uri)
    assert code == 0 and "removed 2 of these 2" in shown, shown + errors
    assert not [name for name in objects(server, uri) if name.startswith("stages/")]
    machine("first")
    shown = launch(images, uri, "--plan", method=METHOD).stdout
    assert "0 of 8 stages cached" in shown
    assert not manifests(mirrored(uri))
