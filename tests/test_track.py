"""MLflow shows a run's results, each once."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from orchestrator.pages.report import write_report
from orchestrator.planning.prepared import Prepared
from orchestrator.storage.store import write_json
from orchestrator.tracking.logged import row_names, scores, summary
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run

mlflow = pytest.importorskip("mlflow")
from orchestrator.tracking.tracking import database, deliver  # noqa: E402 (needs MLflow)

Finished = tuple[Prepared, dict[str, Any], Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("track")
    run = finished_run(root / "store", write_image_set(root / "images", train=12))
    write_report(*run)
    return run


@pytest.fixture(scope="module")
def tracked(finished: Finished, empty_database: Path) -> tuple[Any, str]:
    """A client of MLflow's database, and the message of the delivery."""
    store = finished[0].request.store
    shutil.copy(empty_database, database(store))
    said, new = deliver(store, finished[1]["run"])
    assert new
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{database(store)}"), said


def runs(client: Any, tag: str, value: str, images: str = "images") -> list[Any]:
    experiment = client.get_experiment_by_name(images)
    return client.search_runs([experiment.experiment_id], filter_string=f"tags.`{tag}` = '{value}'")


def test_the_answer_names_the_database_and_the_command_that_shows_it(tracked: tuple[Any, str], finished: Finished) -> None:
    store = finished[0].request.store
    assert tracked[1].startswith(f"{store / 'mlflow.db'}  ") and f"wsss-orch ui --store {store}" in tracked[1]


def test_a_run_lies_where_it_was_computed_in_time_not_where_it_was_delivered(
    tracked: tuple[Any, str], finished: Finished
) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    walls = sum(stage["wall"] for stage in finished[1]["stages"])
    assert child.info.end_time == int(finished[1]["finished"] * 1000)
    assert child.info.end_time - child.info.start_time == pytest.approx(1000 * walls, abs=2)


def test_a_random_seed_is_a_child_of_its_launch(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    parent = tracked[0].get_run(child.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "lpcam+amn" and parent.data.tags["wsss.launch"] + "-0" == finished[1]["run"]
    assert child.info.status == parent.info.status == "FINISHED"


def test_scores_carry_their_split_and_an_earlier_seed_its_component(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    seed, last_seed, pseudo, seg = finished[1]["rows"]
    expected = {
        "seed.lpcam.miou/train": seed["metrics"]["miou"],
        "seed.lpcam.oracle_miou/train": seed["oracle"]["miou"],
        "seed.miou/train": last_seed["metrics"]["miou"],
        "seed.threshold/train": last_seed["protocol"]["threshold"],
        "pseudo.precision/train": pseudo["metrics"]["precision"],
        "seg.recall/val": seg["metrics"]["recall"],
    }
    assert {name: child.data.metrics[name] for name in expected} == expected


def test_settings_keys_and_protocols_are_there(tracked: tuple[Any, str], finished: Finished) -> None:
    prepared, results, _ = finished
    (child,) = runs(tracked[0], "wsss.run", results["run"])
    assert child.data.params["lpcam.clusters"] == str(results["settings"]["lpcam.clusters"])
    assert child.data.params["crf.parameters"] == "irn-labels"
    assert {child.data.tags[f"stage.{step.stage.name}"] for step in prepared.steps} == {step.key for step in prepared.steps}
    assert json.loads(child.data.tags["protocol.seg"]) == results["rows"][-1]["protocol"]


def test_losses_are_there_for_every_epoch(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    history = tracked[0].get_metric_history(child.info.run_id, "loss.amn-network.classification")
    assert [point.step for point in history] == list(range(1, 9))


def test_what_a_stage_took_is_there(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    (stage,) = (stage for stage in finished[1]["stages"] if stage["stage"] == "amn-maps")
    seconds = {key: child.data.metrics[f"{key}_seconds.amn-maps"] for key in ("wall", "cpu")}
    assert seconds == {key: stage[key] for key in seconds}
    assert child.data.metrics["busy_cores.amn-maps"] == stage["cpu"] / stage["wall"]
    assert child.data.metrics["memory_bytes.amn-maps"] == stage["memory"] > 0
    assert "gpu_memory_bytes.amn-maps" not in child.data.metrics


def test_the_columns_source_and_dataset_say_where_a_run_comes_from(tracked: tuple[Any, str], finished: Finished) -> None:
    for run in (*runs(tracked[0], "wsss.run", finished[1]["run"]), *runs(tracked[0], "wsss.launch", finished[0].group)):
        assert run.data.tags["mlflow.source.name"] == "wsss-orch launch --method lpcam+amn"
        assert run.data.tags["mlflow.source.type"] == "LOCAL"
        found = {each.dataset.name: each for each in run.inputs.dataset_inputs}
        images = finished[0].images
        assert found.keys() == {f"{images.name} train", f"{images.name} val"}
        train = found[f"{images.name} train"]
        step = next(step for step in finished[0].steps if step.stage.recipe.truth and step.stage.list_name == "train")
        assert train.dataset.digest == f"{step.identity['images'][:12]}-{step.identity['masks'][:12]}"
        assert json.loads(train.dataset.source) == {"kind": "folder", "path": str(images.root), "list": "train"}
        assert json.loads(train.dataset.profile) == {"images": 12, "classes": 2}
        assert [(tag.key, tag.value) for tag in train.tags] == [("mlflow.data.context", "training, scoring")]


def test_report_results_and_figures_are_artifacts(tracked: tuple[Any, str], finished: Finished) -> None:
    (child,) = runs(tracked[0], "wsss.run", finished[1]["run"])
    names = {file.path for file in tracked[0].list_artifacts(child.info.run_id)}
    assert names == {"report.html", "results.json", "figures"}
    folder = finished[0].request.store / "mlflow-artifacts"
    assert child.info.artifact_uri.startswith(folder.as_uri())
    assert json.loads(next(folder.rglob("results.json")).read_text()) == finished[1]
    figures = {file.name: ElementTree.parse(file).getroot() for file in folder.rglob("*.svg")}
    trainings = {f"losses-{stage}.svg" for stage in ("cam-network", "amn-network", "irn-network", "deeplabv2-segmenter")}
    assert figures.keys() == trainings | {"threshold-seed.lpcam.svg", "threshold-seed.svg"}
    assert all(figure.tag == "{http://www.w3.org/2000/svg}svg" for figure in figures.values())


def test_the_same_run_again_adds_nothing_and_a_new_score_replaces_the_old(tracked: tuple[Any, str], finished: Finished) -> None:
    client, (prepared, results, folder) = tracked[0], finished
    (before,) = runs(client, "wsss.run", results["run"])
    write_json(folder / "results.json", {**results, "finished": results["finished"] + 60})
    assert not deliver(prepared.request.store, results["run"])[1]  # another time makes no other results
    changed = copy.deepcopy(results)
    changed["rows"][-1]["metrics"]["miou"] = 0.123
    write_json(folder / "results.json", changed)
    assert deliver(prepared.request.store, results["run"])[1]
    (after,) = runs(client, "wsss.run", results["run"])
    assert after.info.run_id == before.info.run_id
    assert after.data.metrics == {**before.data.metrics, "seg.miou/val": 0.123}
    for name, count in (("seed.miou/train", 1), ("seg.miou/val", 2), ("loss.amn-network.classification", 8)):
        assert len(client.get_metric_history(after.info.run_id, name)) == count


def test_other_masks_change_a_run_that_was_delivered(image_set: Path, tmp_path: Path, empty_database: Path) -> None:
    store, masks = tmp_path / "store", image_set / "SegmentationClass"
    shutil.copytree(masks, masks.with_name("Other"))
    store.mkdir()
    shutil.copy(empty_database, database(store))
    names = set()
    for folder in ("SegmentationClass", "Other"):
        _, results, _ = finished_run(store, image_set, "cam+none", assignments=(f"images.masks=[{folder}]",))
        names.add(results["run"])
        assert deliver(store, results["run"])[1]
        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{database(store)}")
        (child,) = runs(client, "wsss.run", results["run"], results["images"])
        assert child.data.tags["images.masks"] == str([folder]) and child.data.params["cam.epochs"]
    assert len(names) == 1


def test_a_delivery_that_broke_off_is_taken_up_where_it_was(tracked: tuple[Any, str], finished: Finished) -> None:
    client, (prepared, results, _) = tracked[0], finished
    (before,) = runs(client, "wsss.run", results["run"])
    client.delete_tag(before.info.run_id, "wsss.delivered")  # the last thing that is logged
    client.update_run(before.info.run_id, status="RUNNING")
    assert deliver(prepared.request.store, results["run"])[1]
    (after,) = runs(client, "wsss.run", results["run"])
    assert (after.info.run_id, after.data.metrics) == (before.info.run_id, before.data.metrics)
    assert after.info.status == "FINISHED" and not deliver(prepared.request.store, results["run"])[1]


def test_a_run_of_an_older_version_is_left_out_and_the_others_are_delivered(
    finished: Finished, tmp_path: Path, command: Command, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    store, run = finished[0].request.store, finished[1]["run"]
    old = store / "runs" / "cam-images-00000000-0"
    write_json(old / "results.json", {"format": 1, "run": old.name, "method": "cam", "finished": 0})
    status, told, _ = command("track", "--store", store, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    shutil.rmtree(old)
    assert status == 1 and f"{run}: delivered" in told and "1 delivered, 0 already there, 1 left out" in told
    assert f"{old.name}: left out, because run {old.name} was written by an older version; launch it again" in told


def test_a_launch_shows_mean_and_deviation_over_its_random_seeds(tracked: tuple[Any, str], finished: Finished) -> None:
    request = finished[0].request
    _, results, _ = finished_run(request.store, Path(request.images.partition(":")[2]), random_seed=1)
    deliver(request.store, results["run"])
    (first,), (second,) = (runs(tracked[0], "wsss.run", run) for run in (finished[1]["run"], results["run"]))
    assert first.info.run_id != second.info.run_id
    parent = tracked[0].get_run(first.data.tags["mlflow.parentRunId"])
    assert second.data.tags["mlflow.parentRunId"] == parent.info.run_id and parent.data.metrics["runs"] == 2
    pair = [run.data.metrics["pseudo.miou/train"] for run in (first, second)]
    assert pair[0] != pair[1]
    assert parent.data.metrics["pseudo.miou.mean/train"] == pytest.approx(sum(pair) / 2)
    assert parent.data.metrics["pseudo.miou.std/train"] == pytest.approx(abs(pair[0] - pair[1]) / 2**0.5)
    assert parent.data.params == first.data.params


def test_one_run_has_no_deviation_and_a_score_that_one_lacks_no_mean() -> None:
    place = {"quantity": "seg", "component": "deeplabv2", "stage": "deeplabv2-predictions", "split": "val"}
    row = {**place, "masks": "a", "protocol": {}}
    first, second = ({"rows": [{**row, "metrics": metrics}]} for metrics in ({"miou": 0.4, "fp": 0.1}, {"miou": 0.6, "fp": None}))
    assert summary([first]) == {}
    assert summary([first, second]) == {
        "runs": 2,
        "seg.miou.mean/val": pytest.approx(0.5),
        "seg.miou.std/val": pytest.approx(0.02**0.5),
    }
    second["rows"][0]["masks"] = "b"
    assert summary([first, second]) == {"runs": 2}  # scores on other masks have no mean


def test_names_that_mlflow_refuses_are_rewritten() -> None:
    row = {
        "quantity": "seg",
        "component": "deeplabv2",
        "stage": "deeplabv2-predictions",
        "split": "val@home",
        "metrics": {"miou": 0.5, "fp": None},
        "protocol": {},
    }
    assert scores([row]) == {"seg.miou/val_home": 0.5}
    assert row_names([row, row]) == ["seg.deeplabv2", "seg"]


@pytest.mark.slow
def test_two_launches_may_create_the_database_at_once_and_say_nothing(finished: Finished, tmp_path: Path) -> None:
    for number in range(3):
        made = {**finished[1], "stages": [], "run": f"run-{number}"}
        (tmp_path / "runs").mkdir(exist_ok=True)
        write_json(tmp_path / "runs" / f"run-{number}" / "results.json", made)
    program = (
        "import sys; from pathlib import Path; from orchestrator.tracking.tracking import deliver\n"
        f"deliver(Path({str(tmp_path)!r}), sys.argv[1])\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, f"run-{number}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for number in range(3)
    ]
    said = [process.communicate()[0] for process in started]
    assert said == [b""] * 3 and [process.returncode for process in started] == [0] * 3
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert all(len(runs(client, "wsss.run", f"run-{number}")) == 1 for number in range(3))
