"""What a stage would refuse hours later is refused with the plan, all at once. Also the notes of a plan."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagesets.errors import WrongInput
from orchestrator.engine import checks
from orchestrator.planning import refusals
from orchestrator.planning.experiment import against_names
from orchestrator.planning.prepared import prepare
from orchestrator.planning.refusals import problems, refuse_run, unread
from tests.conftest import Command
from tests.finished_run import finished_run
from tests.planned_run import PLAIN, planned


def refused(images: Path, *assignments: str, **asked: Any) -> str:
    with pytest.raises(WrongInput) as caught:
        refuse_run(planned(images, *assignments, **asked))
    return str(caught.value)


def test_a_plan_without_problems_is_not_refused(image_set: Path) -> None:
    refuse_run(planned(image_set))


def test_a_batch_larger_than_its_list_is_refused_with_the_largest_that_fits(image_set: Path) -> None:
    assert "cam.batch=8 is larger than the training list train, which has 6 images; cam.batch=6 is the most" in refused(
        image_set, "cam.batch=8"
    )


@pytest.mark.parametrize(
    ("method", "training"), [("recurseed+none", "recurseed-network"), ("cam+cutmix+none", "cam-network with cutmix")]
)
def test_a_training_that_needs_two_images_is_refused_one_whatever_its_batch(image_set: Path, method: str, training: str) -> None:
    lists = image_set / "ImageSets" / "Segmentation"
    (lists / "one.txt").write_text("train_0\n", encoding="utf-8")
    told = refused(image_set, "images.training=one", method=method)
    assert f"{training} needs at least 2 training images, and the training list one has 1" in told
    assert "batch=1 is the most" not in told.replace("deeplabv2.batch=1", "")


def test_a_training_that_starts_from_a_network_needs_the_backbone_of_that_network(image_set: Path) -> None:
    given = "backbone.weights=none", "backbone.name=small", "spatial-bce.weights=none", "spatial-bce.batch=6"
    told = refused(image_set, *given, "spatial-bce.backbone=resnet18", method="spatial-bce")
    assert "spatial-bce-first starts from cam-network, which has small; set spatial-bce.backbone=small, or " in told
    assert "irn-network starts from spatial-bce-network, which has resnet18; set backbone.name=resnet18, or backbone" in told
    refuse_run(planned(image_set, *given, "spatial-bce.backbone=small", method="spatial-bce"))


def test_a_batch_that_its_workers_do_not_divide_is_refused_with_what_would(image_set: Path) -> None:
    told = refused(image_set, "cam.batch=6", "training.workers=4")
    assert "cam.batch=6 does not divide among training.workers=4; it takes cam.batch=4 or 8, or training.workers=1 or 2" in told
    assert "irn.batch" not in told
    for count in re.findall(r"\d+", told.rpartition("training.workers=")[2]):
        refuse_run(planned(image_set, "cam.batch=6", f"training.workers={count}"))


def test_float16_is_refused_where_there_is_no_gpu(image_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = "training.precision=float16"
    monkeypatch.setattr(refusals, "gpus", lambda: 0)
    told = "training.precision=float16 needs a GPU, and this machine has none; bfloat16 and float32 need none"
    assert told in refused(image_set, half, cluster=False)
    refuse_run(planned(image_set, half))  # a cluster may have one
    monkeypatch.setattr(refusals, "gpus", lambda: 1)
    refuse_run(planned(image_set, half, "training.workers=1", cluster=False))


def test_everything_is_told_at_once(image_set: Path) -> None:
    told = refused(
        image_set, "cam.batch=8", "irn.batch=5", "training.workers=2", "irn.crop=64", "irn.pair_radius=12", "images.training=val"
    )
    assert told.startswith("6 problems in the plan of cam+irn, nothing was run:")
    parts = (
        "cam.batch=8 is larger",
        "irn.batch=5 is larger",
        "irn.batch=5 does not divide",
        "irn.crop=64 must be at least 89",
        "learn from the images of the list val",
    )
    assert [part for part in parts if part not in told] == []


def test_the_reach_of_irn_is_bounded_where_irn_runs_alone(image_set: Path) -> None:
    assert "irn.crop=72 must be at least 73 where irn.pair_radius=10" in refused(image_set, "irn.crop=72")
    refuse_run(planned(image_set, "irn.crop=73"))
    refuse_run(planned(image_set, "irn.crop=72", method="cam+none"))


def test_the_bound_is_that_of_the_stage_itself(image_set: Path) -> None:
    irn = pytest.importorskip("refiners.irn")
    irn._check_reach(73, 10)
    with pytest.raises(WrongInput):
        irn._check_reach(72, 10)


def test_lists_that_overlap_are_refused_where_they_are_read(image_set: Path) -> None:
    lists = image_set / "ImageSets/Segmentation"
    (lists / "both.txt").write_text((lists / "train.txt").read_text() + "val_1\n")
    told = refused(image_set, "images.training=both")
    assert "the lists both and val (images.validation) share 1 images, such as val_1" in told
    fitted = refused(image_set, "images.fitting=both", method="lpcam+irn")
    assert "the lists both and val (images.validation) share 1 images, such as val_1" in fitted
    refuse_run(planned(image_set, "images.fitting=both"))  # nothing is fitted


def test_more_workers_than_gpus_are_refused_here_and_left_to_a_cluster(image_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.planning.refusals.gpus", lambda: 1)
    assert "training.workers=2 needs as many GPUs, and this machine has 1" in refused(
        image_set, "training.workers=2", cluster=False
    )
    refuse_run(planned(image_set, "training.workers=2"))
    wanted = planned(image_set, "training.workers=2", cluster=False).experiment
    assert not problems(wanted, [stage for stage in wanted.stages if stage.recipe.kind != "train"], {})  # nothing trains


@pytest.mark.parametrize(
    ("assignment", "near"),
    [
        ("recam.lambda=1", "cam.lr"),
        ("recam.epochs=2", "cam.epochs"),
        ("lpcam.on=amn", None),
        ("crf.seed_threshold=0.4", "cam.seed_threshold"),
    ],
)
def test_a_setting_that_nothing_reads_is_told_with_the_nearest_that_is(
    image_set: Path, assignment: str, near: str | None
) -> None:
    (told,) = unread(planned(image_set, assignment).experiment)
    assert told.startswith(f"nothing in cam+irn reads {assignment}; the nearest setting that is read is {near or ''}")


def test_a_file_that_excludes_nothing_is_told(image_set: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").touch()
    (told,) = unread(planned(image_set, exclude=tmp_path / "bad.txt").experiment)
    assert told == f"--exclude {tmp_path / 'bad.txt'} is empty, so no image is left out"


def test_a_setting_against_a_named_variant_is_told(image_set: Path) -> None:
    other = "deeplabv2.backbone=resnet50"
    (told,) = against_names(planned(image_set, other, segmenter="deeplabv2-small").experiment)
    assert told == f"{other} replaces the small of deeplabv2-small"
    assert not list(against_names(planned(image_set, segmenter="deeplabv2-small").experiment))
    assert not list(against_names(planned(image_set, other, segmenter="").experiment))  # nobody named the variant


def test_a_variant_that_replaces_a_value_of_the_users_file_is_told(image_set: Path, tmp_path: Path) -> None:
    (mine := tmp_path / "mine.yaml").write_text("deeplabv2.backbone: resnet101\ndeeplabv2.batch: 3\n")
    told = f"deeplabv2.backbone=small of deeplabv2-small replaces resnet101 of {mine}"

    def notes(*assignments: str, segmenter: str = "deeplabv2-small", recipe: str = str(mine)) -> list[str]:
        wanted = planned(image_set, *assignments, segmenter=segmenter, recipe=recipe).experiment
        return list(against_names(wanted))

    assert told in notes()
    assert told not in notes("deeplabv2.backbone=resnet50")  # neither value is used
    assert not notes(segmenter="") and not notes(recipe="laptop")
    mine.write_text("deeplabv2.backbone: small\n")
    assert not notes()


def test_settings_that_are_read_are_not_told(image_set: Path) -> None:
    read = ("images.training=train", "cam.epochs=2", "evaluation.miou=truth", "deeplabv2.crf=none", "crf.parameters=seam")
    assert list(unread(planned(image_set, *read).experiment)) == []
    assert list(unread(planned(image_set, "lpcam.on=network", method="lpcam+amn").experiment)) == []


def test_a_plan_on_the_command_line_refuses_and_tells_what_a_launch_does(image_set: Path, command: Command) -> None:
    words = (
        "launch",
        "--method",
        "cam+irn",
        "--images",
        f"folder:{image_set}",
        "--set",
        "backbone.weights=none",
        "--track",
        "none",
    )
    for plan in ((), ("--plan",)):
        code, shown, errors = command(*words, "--set", "cam.batch=99", "--set", "recam.lambda=1", *plan)
        assert code == 2 and "cam.batch=99 is larger" in errors and "nothing in cam+irn reads recam.lambda=1" in shown
    assert not Path("wsss-store").exists()


def test_the_built_in_images_are_not_drawn_for_a_plan_that_cannot_run(command: Command) -> None:
    code, _, errors = command("launch", "--method", "cam+irn", "--set", "training.workers=3", "--plan")
    assert code == 2 and "cam.batch=16 does not divide" in errors and not Path("wsss-store").exists()


CONTRADICTIONS = {
    "--until cam-maps --only cam-network": "give one of them",
    "--engine local --address auto": "give one of them",
    "--random-seeds 0,1 --random-seed 3": "excludes --runs and --random-seed",
    "--random-seeds 0,-1": "each number from 0",
    "--random-seed -1": "random seeds are whole numbers from 0",
    "--force nosuch": "this run has no stage 'nosuch'",
    "--until nosuch": "this run has no stage 'nosuch'",
    "--store file": "--store file is a file",
    "--store loop": "--store loop is a link that leads nowhere",
    "--store ''": "--store is empty; is it a variable that is not set?",
    "--exclude ''": "--exclude is empty; is it",
    "--random-seeds ''": "--random-seeds is empty; is it",
    "--until=": "--until is empty; is it",
    "--runs 100000": "100000 random seeds are too many",
    "--tracking-uri http://x": "--tracking-uri http://x is not read with --track none",
    "--exclude train.ids": "train.txt are excluded; a list must name at least one image",
    "--exclude val.ids": "val.txt are excluded; a list must name at least one image",
    "--recipe twice.yaml": "twice.yaml has the setting cam.epochs twice",
    "--recipe nested.yaml": "nested.yaml has settings below 'cam'; a setting is one line, such as cam.epochs: VALUE",
    "--recipe bad.yaml": "bad.yaml is no YAML file",
    "--set backbone.weights=": "is no existing file; it takes",
    "--set imported.maps=": "is no existing folder; it takes",
}


@pytest.mark.parametrize("options", CONTRADICTIONS)
@pytest.mark.parametrize("plan", [(), ("--plan",)])
def test_options_that_contradict_or_hold_nothing_are_refused(
    image_set: Path, command: Command, options: str, plan: tuple[str, ...]
) -> None:
    Path("file").write_text("")
    Path("bad.yaml").write_text("a: [1")
    Path("twice.yaml").write_text("cam.epochs: 2\ncam.lr: 1\ncam.epochs: 3\n")
    Path("nested.yaml").write_text("cam:\n  epochs: 2\n")
    Path("loop").symlink_to("loop")
    for name in ("train", "val"):
        Path(f"{name}.ids").write_bytes((image_set / "ImageSets" / "Segmentation" / f"{name}.txt").read_bytes())
    fit = [word for name in ("cam.batch=4", "irn.batch=4", "deeplabv2.batch=4") for word in ("--set", name)]
    words = ("--images", f"folder:{image_set}", "--set", "backbone.weights=none", "--set", "deeplabv2.weights=none", *fit)
    code, _, errors = command("launch", "--method", "cam+irn", *words, "--track", "none", *shlex.split(options), *plan)
    assert code == 2 and CONTRADICTIONS[options] in errors and not Path("wsss-store/stages").exists()


def test_a_value_that_a_later_one_replaces_is_told(image_set: Path, command: Command) -> None:
    words = ("launch", "--images", f"folder:{image_set}", "--method", "cam+irn", "--set", "cam.epochs=1", "--set", "cam.batch=4")
    told = "is given more than once; its last value counts"
    assert told not in command(*words, "--plan")[2]
    _, _, errors = command(*words, "--method", "cam+crf", "--set", "cam.epochs=2", "--plan")
    assert (
        f"warning: --method {told}\nwarning: --set cam.epochs {told}\n" in errors
        and "cam.batch" not in errors.partition("error")[0]
    )
    _, _, errors = command("images", "check", f"folder:{image_set}", "--store", "a", "--store", "b")
    assert errors == f"warning: --store {told}\n"
    rows = [word for row in ("K = 20", "K = 20*", "K = 20") for word in ("--set", f"{row}:cam.batch=4")]
    _, _, errors = command("table", "lpcam-fig-5", "--images", f"folder:{image_set}", "--plan", *rows)
    assert errors.count(told) == 1 and f"warning: --set K = 20:cam.batch {told}" in errors


def test_a_plan_shows_what_would_be_forced(image_set: Path, command: Command) -> None:
    made = finished_run(image_set.parent / "store", image_set, "cam+none", assignments=(*PLAIN, "training.workers=1"))[0]
    given = [word for assignment in (*PLAIN, "training.workers=1") for word in ("--set", assignment)]
    words = ("--method", "cam+none", "--images", f"folder:{image_set}", "--segmenter", "deeplabv2-small", *given)
    code, shown, errors = command("launch", *words, "--store", made.request.store, "--plan", "--force", "none-masks")
    states = {cells[0]: line for line in shown.splitlines() if (cells := line.split())}
    assert code == 0 and "cached" in states["cam-maps"] and "will run: forced" in states["none-masks"], errors
    assert "will run: forced" in states["deeplabv2-segmenter"]
    assert all(step.cached for step in prepare(made.experiment, made.images).steps)  # nothing was discarded


def test_only_is_refused_if_a_stage_that_it_reads_is_discarded_and_tells_that_mlflow_hears_nothing(
    image_set: Path, command: Command
) -> None:
    made = finished_run(image_set.parent / "store", image_set, "cam+none", assignments=(*PLAIN, "training.workers=1"))[0]
    given = [word for assignment in (*PLAIN, "training.workers=1") for word in ("--set", assignment)]
    words = ("--method", "cam+none", "--images", f"folder:{image_set}", "--segmenter", "deeplabv2-small", *given)
    alone = ("--only", "cam-maps", "--force", "cam-network", "--track", "none", "--engine", "local")
    code, _, errors = command("launch", *words, "--store", made.request.store, *alone)
    assert code == 2 and "--only cam-maps needs cam-network first" in errors
    assert all(step.cached for step in prepare(made.experiment, made.images).steps)  # nothing was discarded
    uri = ("--tracking-uri", "http://me:secret@127.0.0.1:9")
    code, shown, errors = command("launch", *words, "--store", made.request.store, *alone[:2], *alone[-2:], *uri)
    told = "--only makes one stage and no run; http://me:***@127.0.0.1:9 is told of runs alone"
    assert code == 0 and told in shown.replace("\n", " ") and "secret" not in shown, (shown, errors)


def test_planning_loads_nothing_heavy(image_set: Path) -> None:
    program = (
        "import sys; from orchestrator.cli import main; sys.argv = ['wsss-orch', 'launch', '--method', 'cam+irn', '--images', "
        f"'folder:{image_set}', '--plan', '--set', 'cam.batch=2', '--set', 'irn.batch=2', '--set', 'deeplabv2.batch=2']\n"
        "try: main()\nexcept SystemExit: pass\nprint([name for name in ('torch', 'ray', 'mlflow', 'cv2') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=image_set.parent)
    assert "cam-network" in ended.stdout and ended.stdout.endswith("[]\n"), ended.stderr


def test_weights_that_cannot_be_fetched_are_reported_before_anything_runs(
    image_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import backbones.weights as source

    def unreachable(*given: object, **more: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    assert source  # what is asked
    prepared = planned(
        image_set,
        "backbone.weights=imagenet",
        "backbone.name=resnet18",
        "deeplabv2.weights=imagenet",
        "deeplabv2.backbone=resnet34",
    )
    problems = checks.weights_problems([prepared])
    assert [told.partition(" could not be fetched")[0] for told in problems] == [
        "backbone.weights=imagenet: the ImageNet weights resnet18-f37072fd.pth of resnet18",
        "deeplabv2.weights=imagenet: the ImageNet weights resnet34-b627a593.pth of resnet34",
    ]
    assert checks.weights_problems([planned(image_set)]) == []


def test_a_file_of_other_weights_is_told_before_anything_runs(image_set: Path, tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    (told,) = checks.weights_problems([planned(image_set, f"backbone.weights={tmp_path / 'other.pth'}", "backbone.name=small")])
    assert "do not fit backbone small" in told
    (told,) = checks.weights_problems(
        [planned(image_set, f"backbone.weights={tmp_path / 'other.pth'}", "backbone.name=small")], False
    )
    assert "do not fit backbone small" in told
    assert checks.weights_problems([planned(image_set, "backbone.weights=imagenet")], fetch=False) == []


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda value: value * float("nan"), "conv1.weight holds values that are not finite"),
        (lambda value: value.long(), "conv1.weight holds int64 in place of float32"),
    ],
)
def test_weights_that_are_no_numbers_to_begin_with_are_refused_with_the_plan(
    image_set: Path, tmp_path: Path, spoil: Callable[[Any], Any], why: str
) -> None:
    import torch

    from backbones.resnet import small

    state = small(stride=16, dilated=False, frozen_statistics=False).state_dict()
    torch.save({name: spoil(value) for name, value in state.items()}, tmp_path / "spoilt.pth")
    given = f"backbone.weights={tmp_path / 'spoilt.pth'}"
    (told,) = checks.weights_problems([planned(image_set, given, "backbone.name=small")], fetch=False)
    assert told.startswith(f"{given}: ") and why in told


def test_a_plan_refuses_files_that_a_launch_refuses(image_set: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pth").write_text("no weights")
    words = ("launch", "--method", "cam+irn", "--images", f"folder:{image_set}", "--segmenter", "deeplabv2-small", "--plan")
    words += ("--store", str(tmp_path / "store"), *(word for text in PLAIN[1:] for word in ("--set", text)))
    for given in (("--maps-from", tmp_path / "empty"), ("--set", f"backbone.weights={tmp_path / 'text.pth'}")):
        code, _, errors = command(*words, "--set", "training.workers=1", *given)
        assert code == 2 and "nothing was run" in errors and str(tmp_path) in errors


def test_links_to_nowhere_are_told_as_missing_files_all_at_once(image_set: Path, tmp_path: Path, command: Command) -> None:
    lost = [image_set / f"JPEGImages/{id}.png" for id in ("train_0", "val_1")]
    for path in lost:
        path.unlink()
        path.symlink_to("nowhere")
    words = ("launch", "--method", "cam+none", "--images", f"folder:{image_set}", "--segmenter", "deeplabv2-small", "--plan")
    code, _, errors = command(*words, "--store", tmp_path / "store", *(word for text in PLAIN for word in ("--set", text)))
    assert code == 2 and "2 problems in images, nothing was run" in errors
    assert all(f"{path} is missing" in errors for path in lost)
