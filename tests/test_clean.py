"""`clean`: removes what nobody needs, only when asked to, and nothing else."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from imagesets.errors import WrongInput
from imagesets.image_set import ImageSet
from orchestrator.afterwards import cleaning
from orchestrator.afterwards.cleaning import find_waste, remove
from orchestrator.engine import orphans
from orchestrator.engine.announced import announced
from orchestrator.engine.job import Job
from orchestrator.engine.spent import Spent
from orchestrator.planning.experiment import Request
from orchestrator.planning.prepared import Prepared
from orchestrator.storage import lease as leases
from orchestrator.storage.host import host
from orchestrator.storage.lease import held, try_lease
from orchestrator.storage.place import place_of
from orchestrator.storage.store import read_json, write_json
from tests.conftest import Command, write_image_set
from tests.finished_run import PretendEngine, finished_run

TOKEN = "0123456789abcdef"
DEAD = {"host": host(), "pid": 2**22 + 1, "token": "x"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Path]:
    """The plan of a finished run, and its store."""
    root = tmp_path_factory.mktemp("clean")
    images = write_image_set(root / "images")
    return finished_run(root / "store", images, "cam+none")[0], root / "store"


@pytest.fixture
def store(made: tuple[Prepared, Path], tmp_path: Path) -> Path:
    """A copy of the store, to be cleaned."""
    return shutil.copytree(made[1], tmp_path / "store")


def stages(store: Path) -> set[str]:
    return {path.name for path in (store / "stages").iterdir()}


def age(*paths: Path) -> None:
    """Make files two hours old."""
    for path in paths:
        os.utime(path, (time.time() - 2 * cleaning.STALE,) * 2)


def half_finished(store: Path, name: str = "cam-network-00112233aabb") -> Path:
    """A training that was begun."""
    folder = store / "stages" / name
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"x" * 5_000_000)
    return folder


def unneeded(store: Path, name: str = "cam-network-ffeeddccbbaa") -> Path:
    """A finished stage that no run refers to."""
    folder = half_finished(store, name)
    write_json(folder / "manifest.json", {"stage": "cam-network"})
    return folder


def test_a_store_of_one_finished_run_holds_nothing_to_remove(command: Command, store: Path) -> None:
    assert command("clean", "--store", store, "--yes")[1] == f"nothing to remove in {store}\n"


def test_what_is_not_needed_is_shown_with_its_size_and_stays_without_yes(command: Command, store: Path) -> None:
    unneeded(store), half_finished(store)
    before = sorted(store.rglob("*"))
    code, shown, _ = command("clean", "--store", store)
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip().startswith("stages/")}
    assert code == 0 and "--yes removes these 2: 10.0 MB" in shown and sorted(store.rglob("*")) == before
    assert "no run refers to it" in rows["stages/cam-network-ffeeddccbbaa"] and "5.0" in rows["stages/cam-network-ffeeddccbbaa"]
    assert "half finished" in rows["stages/cam-network-00112233aabb"]


def test_yes_removes_exactly_what_was_shown_and_the_run_stays_whole(
    command: Command, store: Path, made: tuple[Prepared, Path]
) -> None:
    before = stages(store)
    unneeded(store), half_finished(store)
    code, shown, _ = command("clean", "--store", store, "--yes")
    assert code == 0 and "removed 2 of these 2: 10.0 MB" in shown and stages(store) == before
    images = made[0].request.images
    launch = ("launch", "--method", "cam+none", "--segmenter", "deeplabv2-small", "--images", images, "--store", store, "--plan")
    assert f"all {len(before)} stages cached" in command(*launch)[1]


def test_a_stage_is_needed_by_its_key_whatever_its_folder_is_called(store: Path) -> None:
    for folder in list((store / "stages").iterdir()):
        folder.rename(folder.with_name(f"another-name-{folder.name[-12:]}"))
    assert find_waste(store) == []


def test_a_stage_that_a_run_refers_to_stays_though_it_is_half_finished(store: Path) -> None:
    for path in (store / "stages").glob("*/manifest.json"):
        path.unlink()
    assert find_waste(store) == []


def test_without_its_results_a_run_refers_to_nothing(store: Path) -> None:
    for path in (store / "runs").glob("*/results.json"):
        path.unlink()
    assert {one.path.name for one in find_waste(store)} == stages(store)


def test_clean_stops_at_results_that_cannot_be_read(command: Command, store: Path) -> None:
    before = stages(store)
    (path,) = (store / "runs").glob("*/results.json")
    for content in ("{", json.dumps({"rows": []}), json.dumps([1])):
        path.write_text(content)
        unneeded(store)
        code, _, errors = command("clean", "--store", store, "--yes")
        assert code == 2 and str(path) in errors and len(stages(store)) == len(before) + 1
        shutil.rmtree(store / "stages" / "cam-network-ffeeddccbbaa")


def test_a_living_lease_protects_what_is_being_made(command: Command, store: Path) -> None:
    folder = half_finished(store)
    with try_lease(folder):
        assert find_waste(store) == []
    assert [one.path for one in find_waste(store)] == [folder]


def test_a_lease_taken_after_the_look_protects_as_well(store: Path) -> None:
    folder, other = half_finished(store), unneeded(store)
    waste = find_waste(store)
    with try_lease(folder):
        assert [one.path for one in remove(store, waste)] == [other]
        assert (folder / "checkpoint.pt").is_file() and not other.exists()


def test_the_lease_of_a_dead_launch_protects_nothing(store: Path) -> None:
    folder = half_finished(store)
    (folder / "lease.json").write_text(json.dumps(DEAD))
    assert not held(folder) and [one.path for one in remove(store, find_waste(store))] == [folder]
    assert not folder.exists() and not list((store / "stages").glob(".*"))


def test_a_silent_host_s_lease_protects_for_as_long_as_it_may_live(store: Path) -> None:
    folder = half_finished(store)
    (folder / "lease.json").write_text(json.dumps({**DEAD, "host": "elsewhere"}))
    assert find_waste(store) == []
    age(folder / "lease.json")
    assert [one.path for one in find_waste(store)] == [folder]


def test_a_running_launch_keeps_what_it_has_made_and_will_read(store: Path, made: tuple[Prepared, Path]) -> None:
    for path in (store / "runs").glob("*/results.json"):
        path.unlink()
    waste = find_waste(store)
    with announced([replace(made[0], experiment=replace(made[0].experiment, request=replace(made[0].request, store=store)))]):
        age(*(store / "runs").glob("*/stages.json"))
        assert find_waste(store) == [] and remove(store, waste) == []
    assert find_waste(store) == []  # it may be just about to write its results
    age(*(store / "runs").glob("*/stages.json"))
    stopped = find_waste(store)
    assert [one.path for one in stopped] == [one.path for one in waste]
    assert {one.why for one in stopped} == {f"no run refers to it; the stopped run {made[0].run} would continue it"}


def test_a_failed_trial_goes_unless_it_is_begun_again_or_a_repeat_has_results(store: Path, made: tuple[Prepared, Path]) -> None:
    names = ("cam-x-0011-0", "cam-x-0022-0", "cam-x-0022-1", f"{made[0].group}-7")
    trial, launched, *_ = folders = [store / "runs" / name for name in names]
    for folder in folders:
        write_json(folder / "stages.json", [])
        write_json(folder / "failed.json", {"error": "no memory"})
        age(folder / "stages.json")
    (launched / "log.txt").touch()  # a launch, whose log tells why
    with try_lease(trial):
        assert find_waste(store) == []
    waste = find_waste(store)
    assert [(one.path, one.why) for one in waste] == [
        (trial, "a trial that failed; its sweep or table has the reason in its log")
    ]
    write_json(trial / "stages.json", [])  # its sweep begins again
    assert remove(store, waste) == [] and trial.is_dir()
    age(trial / "stages.json")
    assert remove(store, waste) == waste and [folder.is_dir() for folder in folders] == [False, True, True, True]


def test_a_bundle_s_network_goes_if_no_run_started_from_it(store: Path, made: tuple[Prepared, Path]) -> None:
    used, left = (store / "imported" / name for name in ("cam-network-aa.pt", "cam-network-bb.pt"))
    used.parent.mkdir()
    used.touch(), left.touch()
    (path,) = (store / "runs").glob("*/results.json")
    results = read_json(path) or {}
    write_json(path, {**results, "settings": {**results["settings"], "imported.network": f"/elsewhere/imported/{used.name}"}})
    assert find_waste(store) == []  # its launch may be about to begin
    age(used, left)
    with announced([replace(made[0], experiment=replace(made[0].experiment, request=replace(made[0].request, store=store)))]):
        assert find_waste(store) == []
    age(*(store / "runs").glob("*/stages.json"))
    assert [one.path for one in remove(store, find_waste(store))] == [left] and used.exists() and not left.exists()


class Looking(PretendEngine):
    """An engine that notes what `clean` would remove while each stage is made."""

    def __init__(self, images: ImageSet, store: Path):
        super().__init__(images)
        self.store, self.found = store, list[list[cleaning.Waste]]()

    def __enter__(self) -> "Looking":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def map(self, job: Job, indices: list[int], *more: object) -> Iterator[tuple[int, Spent]]:
        self.found.append(find_waste(self.store))
        return super().map(job, indices, *more)


def test_a_launch_up_to_a_stage_removes_nothing_of_a_running_launch_of_the_same_run(
    store: Path, made: tuple[Prepared, Path]
) -> None:
    whole = replace(made[0], experiment=replace(made[0].experiment, request=replace(made[0].request, store=store)))
    (store / "runs" / whole.run / "results.json").unlink()
    with announced([whole]):
        with announced([replace(whole, steps=whole.steps[:1])]):
            assert not find_waste(store)
        assert not find_waste(store)


def test_a_launch_that_outlives_another_of_the_same_run_takes_over_its_lease(
    store: Path, made: tuple[Prepared, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated: list[Callable[[], bool]] = []

    @contextmanager
    def noted(do: Callable[[], bool], seconds: float) -> Iterator[None]:
        repeated.append(do)
        yield

    monkeypatch.setattr("orchestrator.engine.announced.beside", noted)
    whole = replace(made[0], experiment=replace(made[0].experiment, request=replace(made[0].request, store=store)))
    run = store / "runs" / whole.run
    (run / "results.json").unlink()
    with ExitStack() as longer:
        with announced([whole]):
            longer.enter_context(announced([whole]))
            (again,) = repeated
            assert again()  # the other launch holds the lease
        assert not again() and held(run)
        age(run / "stages.json")
        assert not find_waste(store)
    assert not held(run)


def launch(request: Request, store: Path) -> tuple[object, ...]:
    """The words of a launch of the request's run in another store."""
    words = ("launch", "--method", request.method, "--segmenter", request.segmenter, "--images", request.images, "--store", store)
    small = ("--set", "cam.batch=2", "--set", "deeplabv2.batch=2", "--set", "backbone.weights=none")
    return *words, *small, "--engine", "local", "--track", "none"


def test_every_launch_announces_itself(
    command: Command, made: tuple[Prepared, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "new"
    engine = Looking(made[0].images, store)
    monkeypatch.setattr("orchestrator.engine.local_engine.LocalEngine", lambda: engine)
    assert command(*launch(made[0].request, store))[0] == 0
    assert len(engine.found) == 6 and not any(engine.found) and find_waste(store) == []


def test_a_page_that_fails_costs_no_random_seed_its_results(
    command: Command, made: tuple[Prepared, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "new"
    monkeypatch.setattr("orchestrator.engine.local_engine.LocalEngine", lambda: Looking(made[0].images, store))

    def fail(*page: object) -> Path:
        raise WrongInput("no page")

    monkeypatch.setattr("orchestrator.pages.report.write_report", fail)
    assert command(*launch(made[0].request, store), "--runs", 2)[0] == 2
    age(*store.glob("runs/*/stages.json"))
    assert len(list(store.glob("runs/*/results.json"))) == 2 and find_waste(store) == []


@pytest.mark.parametrize(
    "place",
    [
        f"cache/.fingerprints.json.{TOKEN}",
        f"imported/.0011.pt.{TOKEN}",
        f"reports/.cam+none.html.{TOKEN}",
        f"reports/lpcam-2/.table.html.{TOKEN}",
        f"runs/RUN/.results.json.{TOKEN}",
        f"runs/.RUN.{TOKEN}",
        f"sweeps/one/.sweep.json.{TOKEN}",
        f".wsss-store.json.{TOKEN}",
        f".probe.{TOKEN}",
        f"stages/STAGE/.manifest.json.{TOKEN}",
        f"stages/STAGE/.lease.dead.{TOKEN}",
        f"stages/STAGE/shards/.000000.npz.{TOKEN}",
        "stages/STAGE/network.partial",
        "images/.shapes-00112233.4711",
        ".doctor-x7",
        f"stages/.cam-network-00112233aabb.{TOKEN}",
    ],
)
def test_temporary_files_go_once_they_are_old(store: Path, place: str) -> None:
    needed = next(folder for folder in sorted((store / "stages").iterdir()) if (folder / "shards").is_dir())
    (run,) = (store / "runs").iterdir()
    path = store / place.replace("STAGE", needed.name).replace("RUN", run.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"xxxx")
    assert find_waste(store) == []
    age(path)
    (one,) = remove(store, find_waste(store))
    assert (one.path, one.bytes) == (path, 4) and not path.exists()


def test_files_that_vanish_while_it_looks_do_not_matter(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "TEMPORARY", ("gone",))
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([self / pattern]) if pattern == "gone" else iter(()))
    assert list(cleaning._temporary(store)) == [] and place_of(store).size(store / "gone") == 0


def test_what_is_not_the_store_s_own_stays(store: Path) -> None:
    for place in ("notes.partial", ".gitignore", "stages/README.md", "stages/mine/data.txt", "images/voc/.keep", "runs/.x.y"):
        (store / place).parent.mkdir(parents=True, exist_ok=True)
        (store / place).touch()
        age(store / place)
    (store / "stages" / "linked-00112233aabb").symlink_to(store / "images")
    assert find_waste(store) == []


def test_ray_s_folder_goes_but_not_under_a_living_launch(store: Path) -> None:
    note = orphans.record(store)  # of this process, which lives
    (store / "ray" / "cam-network-00112233aabb-x-0").mkdir()
    assert find_waste(store) == []
    note.rename(note.with_name("processes-elsewhere-1.json"))  # of a host that cannot be asked
    assert find_waste(store) == []
    write_json(note, {**(read_json(store / "ray" / "processes-elsewhere-1.json") or {}), "driver": [2**22 + 1, 0.0]})
    (store / "ray" / "processes-elsewhere-1.json").unlink()
    assert [one.path for one in remove(store, find_waste(store))] == [store / "ray"]
    assert not (store / "ray").exists()


def test_a_process_that_ends_by_itself_while_it_is_to_be_killed_is_no_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = psutil.Popen(["true"])
    ended.wait()
    note = orphans.record(store)
    write_json(note, {"driver": [2**22 + 1, 0.0], "processes": [[ended.pid, 0.0]]})
    monkeypatch.setattr(orphans, "_living", lambda identity: ended if identity[0] == ended.pid else None)
    orphans.reap(store)
    assert not note.exists()


def test_the_leftovers_of_another_user_stop_no_launch_and_stay_noted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    left = psutil.Popen(["sleep", "60"])
    note = orphans.record(store)
    write_json(note, {"driver": [2**22 + 1, 0.0], "processes": [[left.pid, left.create_time()]]})
    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "kill", refuse)
        patch.setattr(
            psutil, "wait_procs", lambda killed, timeout: killed and pytest.fail("it waits for a process that lives on")
        )
        orphans.reap(store)
    assert note.exists() and left.is_running()
    orphans.reap(store)  # of that user
    assert not note.exists() and not left.is_running()


def test_a_folder_that_is_no_store_is_refused(command: Command, tmp_path: Path) -> None:
    code, _, errors = command("clean", "--store", tmp_path, "--yes")
    assert code == 2 and "is no store" in errors


def test_a_launch_whose_folder_has_just_been_removed_tries_again(tmp_path: Path) -> None:
    assert not leases._create(tmp_path / "gone" / "lease.json", "token")
