"""`export` writes what the run made, whole or not at all."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from imagesets.item import read_label_map
from imagesets.lists import read_list
from orchestrator.afterwards.new_folder import new_folder
from orchestrator.reading.runs import open_run
from orchestrator.storage.shards import StoredRecords
from orchestrator.storage.store import read_json, write_json
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store and the name of the run in it."""
    root = tmp_path_factory.mktemp("export")
    images = write_image_set(root / "images", train=40)  # more than one shard
    return root / "store", finished_run(root / "store", images)[2].name


def records(store: Path, run: str, stage: str) -> StoredRecords:
    return StoredRecords(open_run(store, run).result(stage)[0])


def test_pseudo_masks_leave_as_the_pngs_that_the_run_scored(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    store, run = finished
    code, shown, _ = command("export", run, "--store", store, "--to", tmp_path / "out")
    assert code == 0 and "40 pseudo masks" in shown
    stored = records(store, run, "irn-masks")
    ids = read_list(tmp_path / "out" / "train.txt")
    assert ids == read_list(store.parent / "images" / "ImageSets/Segmentation/train.txt")
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == set(ids)
    assert all(np.array_equal(read_label_map(tmp_path / "out" / f"{id}.png"), stored[id]["label"]) for id in ids)
    images = f"folder:{store.parent / 'images'}"
    command("evaluate", "--masks", tmp_path / "out", "--images", images, "--list", "train", "--json", tmp_path / "scores.json")
    (row,) = (row for row in open_run(store, run).results["rows"] if row["quantity"] == "pseudo")
    assert json.loads((tmp_path / "scores.json").read_text())["metrics"] == row["metrics"]


def test_the_manifest_says_where_they_come_from(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    store, run = finished
    command("export", run, "--store", store, "--to", tmp_path / "out", "--what", "seg")
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    _, manifest = open_run(store, run).result("deeplabv2-predictions")
    assert (about["run"], about["stage"], about["split"]) == (run, "deeplabv2-predictions", "val")
    assert (about["key"], about["digest"]) == (manifest["key"], manifest["digest"])
    assert about["values"] == {"0": "background", "1": "disc", "2": "bar", "255": "void"}
    assert about["protocol"]["miou"] == "union" and about["images"] == 3
    told = (tmp_path / "out" / "README.txt").read_text()
    assert run in told and manifest["key"] in told and "val.txt lists the ids" in told


def test_a_result_is_found_by_its_key_though_its_folder_has_another_name(
    command: Command, finished: tuple[Path, str], tmp_path: Path
) -> None:
    store, run = shutil.copytree(finished[0], tmp_path / "store"), finished[1]
    folder, _ = open_run(store, run).result("irn-masks")
    folder.rename(folder.with_name(f"walk-masks-{folder.name[-12:]}"))
    code, _, _ = command("export", run, "--store", store, "--to", tmp_path / "out")
    assert code == 0 and (tmp_path / "out" / "train_7.png").is_file()


def test_segmentations_leave_as_the_servers_archive(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    store, run = finished
    words = ("--what", "seg", "--format", "voc-server")
    assert command("export", run, "--store", store, "--to", tmp_path / "out", *words)[0] == 0
    with tarfile.open(tmp_path / "out" / "results.tgz") as archive:
        assert sorted(archive.getnames()) == [f"results/VOC2012/Segmentation/comp6_test_cls/val_{n}.png" for n in range(3)]


def test_regions_in_coco_s_form_cover_what_the_label_maps_do(
    command: Command, finished: tuple[Path, str], tmp_path: Path
) -> None:
    store, run = finished
    assert command("export", run, "--store", store, "--to", tmp_path / "out", "--format", "coco-rle")[0] == 0
    regions = json.loads((tmp_path / "out" / "results.json").read_text())
    dataset = json.loads((tmp_path / "out" / "dataset.json").read_text())
    names = {image["id"]: image["file_name"] for image in dataset["images"]}
    found = {(names[region["image_id"]], region["category_id"]) for region in regions}
    stored = records(store, run, "irn-masks")
    assert found == {(id, int(value)) for id in stored for value in np.unique(stored[id]["label"]) if value}
    assert dataset["categories"] == [{"id": 1, "name": "disc"}, {"id": 2, "name": "bar"}]
    assert all(region["segmentation"]["size"] == [48, 48] for region in regions)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--format", "tiff"), "--format tiff is not one of voc, voc-server, coco-rle"),
        (("--what", "seed"), "--what seed is neither pseudo nor seg"),
        (("--format", "voc-server"), "it takes --what seg"),
        (("--competition", "comp7"), "--competition comp7 is neither comp5 nor comp6"),
        (("--competition", "comp5"), "--competition comp5 is for --format voc-server; voc names no competition"),
        (("--what", "model", "--competition", "comp5"), "a model names no competition"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(
    command: Command, finished: tuple[Path, str], tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, _, errors = command("export", finished[1], "--store", finished[0], "--to", tmp_path / "out", *words)
    assert code == 2 and sentence in errors and not (tmp_path / "out").exists()


def test_an_unknown_run_is_refused_with_the_nearest_name(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    store, run = finished
    code, _, errors = command("export", run[:-1] + "1", "--store", store, "--to", tmp_path / "out")
    assert code == 2 and f"did you mean '{run}'?" in errors
    code, _, errors = command("export", f"{run}/", "--store", store, "--to", tmp_path / "out")  # as a shell completes a folder
    assert code == 2 and f"did you mean '{run}'?" in errors
    code, _, errors = command("export", run, "--store", tmp_path / "nowhere", "--to", tmp_path / "out")
    assert code == 2 and "there is no store at" in errors
    (tmp_path / "store" / "runs" / "begun").mkdir(parents=True)
    code, _, errors = command("export", "begun", "--store", tmp_path / "store", "--to", tmp_path / "out")
    assert code == 2 and "run begun has no results yet" in errors


def test_a_run_without_pseudo_masks_says_so(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    store = shutil.copytree(finished[0], tmp_path / "store")
    run = finished_run(store, finished[0].parent / "images", method="supervised")[2].name
    code, _, errors = command("export", run, "--store", store, "--to", tmp_path / "out")
    assert code == 2 and f"run {run} has no pseudo; it has seg" in errors


def test_a_result_that_is_gone_or_a_run_of_an_older_version_is_refused(
    command: Command, finished: tuple[Path, str], tmp_path: Path
) -> None:
    store, run = shutil.copytree(finished[0], tmp_path / "store"), finished[1]
    shutil.rmtree(open_run(store, run).result("irn-masks")[0])
    code, _, errors = command("export", run, "--store", store, "--to", tmp_path / "out")
    assert code == 2 and "the result of irn-masks" in errors and "no longer in the store" in errors
    path = store / "runs" / run / "results.json"
    results = read_json(path)
    assert results is not None
    del results["settings"]["irn.beta"]
    write_json(path, results)
    code, _, errors = command("export", run, "--store", store, "--to", tmp_path / "out")
    assert code == 2 and "a version without the setting 'irn.beta'" in errors
    path.write_text("{")
    code, _, errors = command("export", run, "--store", store, "--to", tmp_path / "out")
    assert code == 2 and "is not whole" in errors


def test_an_export_that_breaks_off_leaves_nothing_behind(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    store, run = shutil.copytree(finished[0], tmp_path / "store"), finished[1]
    (open_run(store, run).result("irn-masks")[0] / "shards" / "000001.npz").unlink()
    before = sorted(tmp_path.iterdir())
    code, _, _ = command("export", run, "--store", store, "--to", tmp_path / "out")
    assert code == 1 and sorted(tmp_path.iterdir()) == before


def test_a_folder_in_use_is_refused_and_left_as_it_is(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    assert command("export", finished[1], "--store", finished[0], "--to", target)[0] == 0  # an empty one will do
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    code, _, errors = command("export", finished[1], "--store", finished[0], "--to", tmp_path / "mine")
    assert code == 2 and "exists and is not an empty folder" in errors
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_of_two_that_write_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(ValueError, match="exists and is not an empty folder"), new_folder(target) as second:
        (second / "second").touch()
        with new_folder(target) as first:
            (first / "first").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and [path.name for path in target.iterdir()] == ["first"]


def test_what_was_not_scored_leaves_too(command: Command, finished: tuple[Path, str], tmp_path: Path) -> None:
    """Without masks nothing is scored, and the pseudo masks and segmentations are what was wanted."""
    store, run = finished
    shutil.copytree(store, tmp_path / "store", symlinks=True)
    path = tmp_path / "store" / "runs" / run / "results.json"
    results = json.loads(path.read_text())
    stages = [entry for entry in results["stages"] if not entry["stage"].endswith("-score")]
    path.write_text(json.dumps({**results, "rows": [], "stages": stages}))
    for what, stage in (("pseudo", "irn-masks"), ("seg", "deeplabv2-predictions")):
        code, _, errors = command("export", run, "--store", tmp_path / "store", "--to", tmp_path / what, "--what", what)
        about = json.loads((tmp_path / what / "manifest.json").read_text())
        assert code == 0 and not errors and about["stage"] == stage and "metrics" not in about
    code, shown, _ = command("compare", run, "--store", tmp_path / "store")
    assert code == 0 and "note: nothing of " in shown and "was scored" in shown
    path.write_text(json.dumps({**results, "rows": [], "stages": stages[:1]}))
    code, _, errors = command("export", run, "--store", tmp_path / "store", "--to", tmp_path / "none")
    assert code == 2 and f"run {run} has no pseudo; it has nothing" in errors
