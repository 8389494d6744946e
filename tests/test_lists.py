"""The lists of per-image stages: those of their readers. A wider list takes over what is there and computes the rest."""

import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from imagesets.voc12 import CLASSES
from orchestrator.afterwards.cleaning import find_waste
from orchestrator.engine import shard_work
from orchestrator.engine.announced import announced, keys_of_running
from orchestrator.engine.job import Job
from orchestrator.pages.report import write_report
from orchestrator.planning.experiment import Request
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared, plan_with
from orchestrator.planning.siblings import shared_out
from orchestrator.planning.stage import union
from orchestrator.reading.runs import open_run
from orchestrator.reading.tables import print_plan
from tests.conftest import Command, write_image_set
from tests.finished_run import finished_run
from tests.launching import command as words
from tests.launching import finish, kill, start, wait_for
from tests.planned_run import plan_of

PLAIN = ("backbone.weights=none", "training.workers=1", "deeplabv2.batch=4")
SOME = ("train_0", "train_1", "train_2")


def write_list(images: Path, name: str, ids: list[str] | tuple[str, ...]) -> None:
    (images / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids))


@pytest.fixture
def lists(image_set: Path) -> Path:
    """An image set whose list `some` has three of the six training images."""
    write_list(image_set, "some", SOME)
    return image_set


@pytest.fixture
def voc(image_set: Path) -> Path:
    """VOC in small: `train` has four of the six images of `train_aug`, `val` three others."""
    named = image_set.rename(image_set.with_name("VOC2012"))
    write_list(named, "train_aug", [f"train_{number}" for number in range(6)])
    write_list(named, "train", [f"train_{number}" for number in range(4)])
    labels = named / "image_labels.txt"
    labels.write_text(labels.read_text().replace("disc", CLASSES[0]).replace("bar", CLASSES[1]))
    return named


def planned(images: Path, method: str, *assignments: str, until: str = "", kind: str = "folder") -> Prepared:
    """A plan in the store beside the images."""
    request = Request(
        method, f"{kind}:{images}", "deeplabv2-small", assignments=(*PLAIN, *assignments), store=images.parent / "store"
    )
    found = plan_of(request)
    return plan_with(found.planner, found.experiment, until=until)


def finished(images: Path, method: str, *assignments: str) -> tuple[Prepared, dict[str, Any], Path]:
    """A run in that store whose records are made up."""
    return finished_run(images.parent / "store", images, method, assignments=(*PLAIN, *assignments))


def launching(images: Path, method: str, *options: str) -> list[str]:
    """The words of a launch of such a run."""
    asked = ["launch", "--method", method, "--images", f"folder:{images}", "--segmenter", "deeplabv2-small"]
    asked += ["--store", str(images.parent / "store")]
    return [*asked, *(word for setting in PLAIN for word in ("--set", setting)), *options]


def over(prepared: Prepared) -> dict[str, str]:
    """The list of each stage that is no score."""
    return {step.stage.name: step.stage.list_name for step in prepared.steps if not step.stage.scores}


def step_of(prepared: Prepared, name: str) -> PlannedStage:
    return next(step for step in prepared.steps if step.stage.name == name)


def keys(prepared: Prepared) -> dict[str, str]:
    return {step.stage.name: step.key for step in prepared.steps}


def test_maps_that_only_prototypes_read_go_over_the_fitting_list(voc: Path) -> None:
    assert over(planned(voc, "lpcam+irn", kind="voc12")) == {
        **{"cam-network": "train_aug", "cam-maps": "train", "lpcam-prototypes": "train", "lpcam-maps": "train_aug"},
        **{"irn-labels": "train_aug", "irn-network": "train_aug", "irn-masks": "train_aug"},
        **{"deeplabv2-segmenter": "train_aug", "deeplabv2-predictions": "val"},
    }
    assert over(planned(voc, "cam+irn", kind="voc12"))["cam-maps"] == "train_aug"


def test_scores_are_readers(voc: Path) -> None:
    scored = planned(voc, "cam+lpcam+irn", "images.scoring=[train, val]", "images.selection=train_aug", kind="voc12")
    assert over(scored)["cam-maps"] == "train_aug + val"  # train is in train_aug
    assert [step.stage.list_name for step in scored.steps if step.stage.scores == "seed"][:3] == ["train", "val", "train_aug"]
    seeds = planned(voc, "cam+none", kind="voc12", until="cam-maps-score")
    assert over(seeds) == {"cam-network": "train_aug", "cam-maps": "train"}


def test_a_score_that_is_left_out_for_want_of_masks_is_no_reader(voc: Path) -> None:
    arguments = ("cam+lpcam+none", "images.scoring=val")
    assert over(planned(voc, *arguments, kind="voc12"))["cam-maps"] == "val + train"
    shutil.rmtree(voc / "SegmentationClass")
    bare = over(planned(voc, *arguments, kind="voc12"))
    assert bare["cam-maps"] == "train" and bare["deeplabv2-predictions"] == "val"


def test_a_plan_up_to_a_stage_makes_of_it_what_the_whole_run_reads(voc: Path) -> None:
    arguments = ("lpcam+irn", "images.scoring=[train, val]")
    whole = over(planned(voc, *arguments, kind="voc12"))
    assert whole["cam-maps"] == "train" and whole["irn-masks"] == "train_aug + val"
    for name in ("cam-maps", "lpcam-maps", "irn-masks"):
        assert over(planned(voc, *arguments, kind="voc12", until=name))[name] == whole[name]
    seeds = over(planned(voc, *arguments, kind="voc12", until="lpcam-maps-score-val"))
    assert seeds["lpcam-maps"] == "val" and seeds["cam-maps"] == "train"


def test_a_union_leaves_out_lists_that_others_hold() -> None:
    ids = {"train": {1, 2}, "train_aug": {1, 2, 3}, "val": {4}, "same": {1, 2, 3}}

    def holds(one: str, other: str) -> bool:
        return ids[one] >= ids[other]

    assert union(["train", "val", "train_aug", "val"], holds) == "val + train_aug"
    assert union(["train_aug", "same"], holds) == "train_aug"
    assert union(["val + train", "train"], holds) == "val + train"
    assert union(["val + train"], holds, first="train") == "train + val"


def test_records_are_taken_from_the_result_that_has_the_most() -> None:
    of = {
        name: {"key": name, "items": len(ids)} for name, ids in {"a": "12", "b": "123", "c": "1239", "d": "4", "e": "9"}.items()
    }
    results = [(of["a"], "12"), (of["c"], "1239"), (of["b"], "123"), (of["d"], "4"), (of["e"], "9")]
    assert [(one.manifest["key"], one.count) for one in shared_out("12345", results)] == [("b", 3), ("d", 1)]


def test_a_key_does_not_depend_on_the_lists_of_other_readers(lists: Path) -> None:
    narrow, wide = (planned(lists, method, "images.fitting=some") for method in ("lpcam+none", "cam+lpcam+none"))
    assert over(narrow)["cam-maps"] == "some" and over(wide)["cam-maps"] == "train"
    assert {name for name, key in keys(narrow).items() if keys(wide)[name] != key} == {"cam-maps"}


@pytest.mark.parametrize("name", ["sub/extra", "more[1]"])
def test_a_further_list_may_have_any_name_that_a_file_can_have(name: str, image_set: Path, tmp_path: Path) -> None:
    (image_set / "ImageSets" / "Segmentation" / "sub").mkdir()
    write_list(image_set, name, ["val_0"])
    asked = (*PLAIN, f"images.validation=val,{name}")
    prepared, results, folder = finished_run(tmp_path / "store", image_set, "cam+none", assignments=asked)
    stage = f"deeplabv2-predictions-score-{name}"
    assert [row["split"] for row in results["rows"] if row["quantity"] == "seg"] == ["val", name]
    assert open_run(tmp_path / "store", folder.name).result(stage)[1]["stage"] == stage
    assert [made["list"] for made in prepared.planner.store.results(stage)] == [name]


def test_a_wider_result_counts_as_the_result(lists: Path, command: Command) -> None:
    store = lists.parent / "store"
    made, _, _ = finished(lists, "cam+none")
    wide = step_of(made, "cam-maps")
    prepared, results, folder = finished(lists, "lpcam+none", "images.fitting=some")
    step = step_of(prepared, "cam-maps")
    assert step.cached and step.key != wide.key == step.result and step.folder == wide.folder
    assert not list((store / "stages").glob(f"*-{step.key[:12]}"))
    (entry,) = (entry for entry in results["stages"] if entry["stage"] == "cam-maps")
    assert (entry["key"], entry["list"], entry["items"]) == (wide.key, "train", 6)
    assert find_waste(store) == []
    shutil.rmtree(store / "runs" / made.run)
    assert wide.folder not in [waste.path for waste in find_waste(store)]  # the other run needs it
    code, shown, errors = command("reproduce", folder.name, "--store", store)
    assert code == 0 and "nothing differs here" in shown, shown + errors


def test_the_cost_of_a_wider_result_is_that_of_the_images_that_were_needed(lists: Path) -> None:
    finished(lists, "cam+none")
    prepared, results, _ = finished(lists, "lpcam+none", "images.fitting=some")
    wall = {step.stage.name: (step.manifest or {})["wall"] for step in prepared.steps}
    parts = wall["cam-network"], wall["cam-maps"] / 2, wall["lpcam-prototypes"], wall["lpcam-maps"]
    (row,) = (row for row in results["rows"] if row["stage"] == "lpcam-maps")
    assert row["cost"]["wall"] == pytest.approx(sum(parts))
    assert row["cost"]["units"] == pytest.approx(sum(parts) / (wall["cam-network"] + wall["cam-maps"]))


def test_the_images_a_second_of_a_wider_result_are_of_all_its_images(lists: Path) -> None:
    finished(lists, "cam+none")
    prepared, results, folder = finished(lists, "lpcam+none", "images.fitting=some")
    made = step_of(prepared, "cam-maps").manifest
    assert made is not None and made["items"] == 6
    page = re.sub(r"<[^>]+>", " ", write_report(prepared, results, folder).read_text())
    assert re.search(rf"\scam-maps .* {made['items'] / made['wall']:.1f}\s.*\sgoes over 6 images", page.replace("\n", " "))


def test_a_plan_tells_what_is_taken_over(lists: Path) -> None:
    finished(lists, "lpcam+none", "images.fitting=some")
    prepared = planned(lists, "cam+none")
    step = step_of(prepared, "cam-maps")
    assert not step.cached and step.taken_over == 3 and step_of(prepared, "cam-network").cached
    console = Console(file=io.StringIO(), width=200)
    print_plan(console, prepared, prepared.steps)
    assert "will run: 3 of its 6 images are taken over" in console.file.getvalue()  # type: ignore[attr-defined]


def test_nothing_is_taken_over_from_other_images_inputs_or_settings(lists: Path) -> None:
    def taken(*assignments: str) -> int:
        return step_of(planned(lists, "cam+none", "images.scoring=[train, val]", *assignments), "cam-maps").taken_over

    write_list(lists, "few", ["val_0", "val_1"])
    made, _, _ = finished(lists, "cam+none", "images.scoring=[few]")
    assert step_of(made, "cam-maps").stage.list_name == "train + few" and taken() == 8
    assert taken("cam.scales=[1.0]") == taken("cam.epochs=1") == 0
    image = lists / "JPEGImages/val_1.png"
    before = image.read_bytes()
    shutil.copy(lists / "JPEGImages/val_0.png", image)
    assert taken() == 0
    image.write_bytes(before)
    assert taken() == 8
    write_list(lists, "few", ["val_0"])  # now it is not known which images the records are of
    assert taken() == 0


def test_a_forced_stage_takes_over_nothing(lists: Path, command: Command) -> None:
    finished(lists, "lpcam+none", "images.fitting=some")
    asked = launching(lists, "cam+none", "--plan")
    code, shown, errors = command(*asked)
    assert code == 0 and "3 of its 6 images" in shown, shown + errors
    code, shown, errors = command(*asked, "--force", "cam-maps")
    assert code == 0 and "forced" in shown and "taken over" not in shown, shown + errors


def test_what_a_running_launch_takes_over_is_not_cleaned_away(lists: Path) -> None:
    store = lists.parent / "store"
    made, _, _ = finished(lists, "lpcam+none", "images.fitting=some")
    with announced([planned(lists, "cam+none")]):
        assert step_of(made, "cam-maps").key in keys_of_running(store)


def test_a_run_up_to_a_score_keeps_the_wider_maps_of_the_whole_run(lists: Path, command: Command) -> None:
    """It needs maps of fewer images than the whole run, and both are one run."""
    _, results, folder = finished(lists, "cam+none", "images.scoring=some")
    asked = launching(lists, "cam+none", "--set", "images.scoring=some", "--until", "cam-maps-score", "--track", "none")
    code, shown, errors = command(*asked)
    assert code == 0 and "nothing to do: all 3 stages" in shown, shown + errors
    again = open_run(lists.parent / "store", folder.name).results
    assert again["stages"] == results["stages"] and again["rows"] == results["rows"]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The images that stages compute in this process, by stage."""
    found: dict[str, list[str]] = {}
    made = shard_work._made

    def counted(job: Job, device: str, shards: Iterable[Sequence[Any]], *more: Any) -> Any:
        def noted() -> Iterator[Sequence[Any]]:
            for parts in shards:
                found.setdefault(job.name, []).extend(map(job.name_of, parts))
                yield parts

        return made(job, device, noted(), *more)

    monkeypatch.setattr(shard_work, "_made", counted)
    return found


def digests_of(store: Path, run: str) -> dict[str, str]:
    """The content digests of a run's results by stage."""
    return {name: manifest["digest"] for name, manifest in open_run(store, run).manifests().items() if manifest}


@pytest.mark.slow
def test_cam_after_lpcam_computes_the_missing_maps_alone(
    lists: Path, command: Command, computed: dict[str, list[str]], tmp_path: Path
) -> None:
    def run(store: str, method: str) -> tuple[dict[str, list[str]], dict[str, str], str]:
        """The images that each stage computed, the digests of the run's results, and what was shown."""
        computed.clear()
        asked = words(lists, tmp_path / store, "--engine", "local", "--set", "images.fitting=some", method=method)[1:]
        code, shown, errors = command(*asked)
        assert code == 0, shown + errors
        (folder,) = (tmp_path / store / "runs").glob(f"{method}-*")
        return dict(computed), digests_of(tmp_path / store, folder.name), shown

    made, lpcam, _ = run("one", "lpcam+irn")
    assert made["cam-maps"] == [*SOME] and len(made["lpcam-maps"]) == 6
    made, cam, shown = run("one", "cam+irn")
    assert made["cam-maps"] == ["train_3", "train_4", "train_5"]
    assert "cam-maps: 3 of its 6 images are taken over" in shown
    _, alone, _ = run("two", "cam+irn")
    assert alone == cam
    made, after, shown = run("two", "lpcam+irn")
    assert "cam-maps" not in made and "cam-maps: cached" in shown
    assert {name for name in lpcam if after[name] != lpcam[name]} == {"cam-maps"}  # the wider one


@pytest.mark.slow
def test_a_stage_that_is_killed_while_it_takes_over_records_is_continued(tmp_path: Path) -> None:
    """By one engine and the other; the result is that of a launch that had nothing to take over."""
    images, store = write_image_set(tmp_path / "images", train=100), tmp_path / "store"
    write_list(images, "some", [f"train_{number}" for number in range(0, 100, 3)])
    scales = ("--set", "cam.scales=[1.0,2.0,3.0,4.0]", "--set", "images.fitting=some")  # which take seconds
    cam = ("--until", "cam-maps", *scales)

    def maps_of_all(store: Path) -> dict[str, Any]:
        """The manifest of CAM's maps of all 100 images."""
        found = [json.loads(path.read_text()) for path in (store / "stages").glob("cam-maps-*/manifest.json")]
        return next((manifest for manifest in found if manifest["items"] == 100), {})

    def begun() -> bool:
        assert not maps_of_all(store), "the stage was over before it could be killed"
        folders = [folder for folder in (store / "stages").glob("cam-maps-*") if not (folder / "manifest.json").exists()]
        return any(list(folder.glob("shards/[0-9]*.npz")) for folder in folders)

    finish(images, tmp_path / "alone", "--engine", "local", *cam, method="cam+none")
    finish(images, store, "--engine", "local", "--until", "lpcam-prototypes", *scales, method="lpcam+none")
    process = start(images, store, "--engine", "local", *cam, method="cam+none")
    wait_for(begun, process)
    kill(process)
    done = finish(images, store, *cam, method="cam+none")
    assert "34 of its 100 images are taken over" in done.stdout and "images there already" in done.stdout
    assert maps_of_all(store)["digest"] == maps_of_all(tmp_path / "alone")["digest"]
    assert list(maps_of_all(store)["taken_over"].values()) == [34]
