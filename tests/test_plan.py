"""Keys: every setting reaches exactly its readers, and nothing else changes a key."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesets.errors import WrongInput
from imagesets.item import read_label_map
from imagesets.palette import save_label_map
from orchestrator.planning.code_version import code_version
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.prepared import Prepared, open_images_of, plan_with, planner, prepare
from orchestrator.planning.recipe import Setting
from orchestrator.planning.recipes import allowed, find
from orchestrator.planning.settings import declared
from orchestrator.planning.stage import Stage
from tests.finished_run import finished_run
from tests.planned_run import plan_of

METHOD = "lpcam+amn"
PLAIN = ("backbone.weights=none",)


def request(root: Path, **changes: Any) -> Request:
    return replace(Request(METHOD, f"folder:{root}", store=root.parent / "store", assignments=PLAIN), **changes)


def stages_of(prepared: Prepared) -> list[Stage]:
    return [step.stage for step in prepared.steps]


def keys(prepared: Prepared) -> dict[str, str]:
    return {step.stage.name: step.key for step in prepared.steps}


def changed(before: Prepared, after: Prepared) -> set[str]:
    return {name for name, key in keys(after).items() if keys(before)[name] != key}


def descendants(stages: list[Stage], readers: set[str]) -> set[str]:
    found: set[str] = set()
    for stage in stages:  # in order, so that sources come first
        if stage.name in readers or any(source.name in found for source in stage.inputs.values()):
            found.add(stage.name)
    return found


def another(setting: Setting, value: Any, root: Path) -> str:
    """Some other allowed value."""
    if setting.folder:
        (root / "folder").mkdir(exist_ok=True)
        return str(root / "folder")
    if setting.file:
        path = root / "weights.pth"
        path.write_bytes(b"weights")
        return str(path)
    if value is None:
        return "2"
    if allowed(setting):
        return str(next(choice for choice in allowed(setting) if choice != value and [choice] != value))
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, (int, float)):
        higher = value + 1 if isinstance(value, int) else value / 2 + 0.013  # which no default is equal to
        return str(higher if setting.maximum is None or higher <= setting.maximum else value / 2)
    if isinstance(value, list):
        return (
            str([*value[:-1], value[-1] + (1 if isinstance(value[-1], int) else 0.125)])
            if not isinstance(value[0], str)
            else "[other]"
        )
    return "other"


def readers(stages: list[Stage], name: str) -> set[str]:
    """The stages that receive a setting (as their own, through a group, or through the word that its component wrote).

    Those that exist only at a value of it count too: at another, another stage has their name.
    """
    component, _, bare = name.partition(".")
    found = {stage.name for stage in stages if name in stage.recipe.if_set}
    for stage in stages:
        for listed in (entry.partition("?")[0] for entry in stage.recipe.settings):
            prefix, dot, last = listed.partition(".")
            owner = stage.recipe.call.split(":")[0].rpartition(".")[2]
            own = not dot and listed == bare and component in (stage.component, owner, "evaluation" if stage.scores else owner)
            group = listed in (f"{component}.*", name)
            word = dot and prefix in stage.inputs and stage.inputs[prefix].component == component and last == bare
            if own or group or word:
                found.add(stage.name)
    return found


@pytest.mark.parametrize(("method", "least"), [("lpcam+amn", 50), ("recam+irn", 50), ("recam+advcam+crf", 40)])
def test_every_setting_in_turn_changes_exactly_its_readers_and_what_they_feed(image_set: Path, method: str, least: int) -> None:
    fixed = ("backbone.weights=none", "training.workers=1")  # by default the number follows the batches of all trainings
    before = plan_of(request(image_set, method=method, assignments=fixed))
    shared = before.planner  # which looks at the images once
    table = declared(find("folder", ("images",))[0])
    tried = 0
    for name, setting in table.items():
        if name.startswith(("images.", "imported.")):
            continue  # these choose files; the fingerprint tests below and tests/test_imported_files.py cover them
        if (allowed(setting) and len(allowed(setting)) == 1) or name == "lpcam.on":
            continue  # nothing to change; another order of stages (tests/test_expression.py)
        value = another(setting, before.settings[name], image_set)
        after = plan_with(shared, experiment(request(image_set, method=method, assignments=(*fixed, f"{name}={value}"))))
        assert after.settings[name] != before.settings[name], name
        expected = descendants(stages_of(before), readers(stages_of(before), name)) if setting.keyed else set()
        assert changed(before, after) == expected, name
        tried += bool(expected)
    assert tried > least  # the run reads that many


def test_the_training_loop_is_part_of_every_training_stage_s_key(image_set: Path) -> None:
    for step in plan_of(request(image_set)).steps:
        if step.stage.recipe.kind == "train":
            assert step.identity["code"] == code_version(step.stage.recipe.call, step.stage.recipe.network, "training.loop:train")
            assert step.identity["code"] != code_version(step.stage.recipe.call, step.stage.recipe.network)


def test_the_code_that_reads_images_of_more_than_8_bits_counts_where_a_set_may_have_some(image_set: Path) -> None:
    eight, deep = (plan_of(request(image_set, assignments=(*PLAIN, *own))).steps for own in ((), ("images.range=0,4095",)))
    assert all(one.identity["code"] != other.identity["code"] for one, other in zip(eight, deep, strict=True))


def test_the_random_seed_changes_every_key(image_set: Path) -> None:
    before, after = (plan_of(request(image_set, random_seed=seed)) for seed in (0, 1))
    assert changed(before, after) == set(keys(before))


@pytest.mark.parametrize("given", ["extraction.precision=bfloat16", "extraction.threads=2"])
def test_how_networks_are_read_counts_in_no_key_of_copied_masks_and_of_what_learns_from_them(image_set: Path, given: str) -> None:
    masks = f"imported.masks={image_set / 'SegmentationClass'}"
    for method, own in (("supervised", ()), ("cam+irn", (masks,))):
        before, after = (plan_of(request(image_set, method=method, assignments=(*PLAIN, *own, *more))) for more in ((), (given,)))
        assert not {f"{method}-masks", "imported-masks", "deeplabv2-segmenter"} & changed(before, after)


def test_an_imported_file_counts_whatever_form_the_accents_of_its_name_have(image_set: Path, tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    for path in [*image_set.glob("*.txt"), *image_set.glob("ImageSets/Segmentation/*.txt")]:
        path.write_text(path.read_text().replace("train_0", composed))
    for folder, suffix in (("JPEGImages", "png"), ("SegmentationClass", "png")):
        (image_set / folder / f"train_0.{suffix}").rename(image_set / folder / f"{composed}.{suffix}")
    masks = tmp_path / "masks"
    shutil.copytree(image_set / "SegmentationClass", masks)
    file = (masks / f"{composed}.png").rename(masks / f"{apart}.png")
    given = (*PLAIN, f"imported.masks={masks}")
    before = plan_of(request(image_set, method="cam+irn", assignments=given))
    save_label_map(file, 0 * read_label_map(file))
    assert "imported-masks" in changed(before, plan_of(request(image_set, method="cam+irn", assignments=given)))


def test_editing_a_mask_retrains_nothing(image_set: Path) -> None:
    before = plan_of(request(image_set))
    path = image_set / "SegmentationClass" / "train_0.png"
    label = read_label_map(path).copy()
    label[:4] = 1
    save_label_map(path, label)
    after = plan_of(request(image_set))
    assert changed(before, after) == {"lpcam-maps-score", "amn-maps-score", "irn-masks-score"}


def test_moving_the_images_changes_no_key_and_editing_one_changes_its_readers(image_set: Path) -> None:
    before = plan_of(request(image_set))
    moved = image_set.rename(image_set.with_name("moved"))
    assert changed(before, plan_of(request(moved))) == set()
    shutil.copy(moved / "JPEGImages/val_0.png", moved / "JPEGImages/val_1.png")
    edited = changed(before, plan_of(request(moved)))
    assert edited == {"deeplabv2-predictions", "deeplabv2-predictions-score"}


def test_a_class_of_another_name_is_another_class(image_set: Path) -> None:
    before = plan_of(request(image_set))
    for name in ("classes.txt", "image_labels.txt"):
        path = image_set / name
        path.write_text(path.read_text().replace("disc", "plate"))
    assert changed(before, plan_of(request(image_set))) == set(keys(before))


def test_a_run_on_other_images_has_another_name(image_set: Path) -> None:
    before = plan_of(request(image_set)).group
    shutil.copy(image_set / "JPEGImages/train_0.png", image_set / "JPEGImages/train_1.png")
    assert plan_of(request(image_set)).group != before


def test_a_plan_writes_nothing(image_set: Path) -> None:
    plan_of(request(image_set))
    drawn = Request(METHOD, store=image_set.parent / "store")
    assert open_images_of(experiment(drawn), make=False) is None
    assert not (image_set.parent / "store").exists()


def test_a_list_outside_the_training_list_is_scored_without_training_anew(image_set: Path) -> None:
    before = plan_of(request(image_set))
    after = plan_of(request(image_set, assignments=("backbone.weights=none", "images.scoring=[train, val]")))
    wider = {"lpcam-maps", "amn-labels", "amn-maps", "irn-masks"}  # these go over val too
    assert after.group != before.group
    assert {name for name, key in keys(before).items() if keys(after)[name] != key} == wider
    assert set(keys(after)) - set(keys(before)) == {"lpcam-maps-score-val", "amn-maps-score-val", "irn-masks-score-val"}


def test_segmentations_are_scored_on_any_list(image_set: Path) -> None:
    after = plan_of(request(image_set, assignments=("backbone.weights=none", "images.validation=[val, train]")))
    assert set(keys(after)) - set(keys(plan_of(request(image_set)))) == {"deeplabv2-predictions-score-train"}
    (predictions,) = (step for step in after.steps if step.stage.name == "deeplabv2-predictions")
    assert predictions.stage.list_name == "val + train" and len(predictions.items) == 9


def test_thresholds_may_be_chosen_on_another_list_than_is_scored(image_set: Path) -> None:
    after = plan_of(request(image_set, assignments=("backbone.weights=none", "images.selection=val")))
    assert {"amn-maps-score", "amn-maps-score-val", "deeplabv2-predictions-score"} <= set(keys(after))


def test_stages_that_fit_have_a_list_of_their_own(image_set: Path) -> None:
    """They do not change with the masks of the scored list or with another scored list."""
    before = plan_of(request(image_set))
    (image_set / "ImageSets/Segmentation/some.txt").write_text("train_0\ntrain_1\n")
    scored = plan_of(request(image_set, assignments=("backbone.weights=none", "images.scoring=some")))
    assert changed(before, scored) == {name for name in keys(before) if name.endswith("-score") and "deeplab" not in name}
    fitted = plan_of(request(image_set, assignments=("backbone.weights=none", "images.fitting=some")))
    assert "lpcam-prototypes" in changed(before, fitted) and "cam-network" not in changed(before, fitted)


def test_without_any_mask_everything_but_scores_is_planned(image_set: Path) -> None:
    scored = plan_of(request(image_set))
    shutil.rmtree(image_set / "SegmentationClass")
    bare = plan_of(request(image_set))
    assert list(keys(bare)) == [name for name in keys(scored) if not name.endswith("-score")]
    assert bare.unscored == ["train", "val"]


def test_a_setting_that_no_stage_reads_renames_no_run(image_set: Path) -> None:
    before = plan_of(request(image_set))
    other = plan_of(request(image_set, assignments=("backbone.weights=none", "recam.lambda=0.5", "advcam.step=0.1")))
    assert other.group == before.group and other.settings != before.settings
    assert plan_of(request(image_set, assignments=("backbone.weights=none", "irn.beta=3.0"))).group != before.group


def test_a_result_counts_only_while_its_inputs_are_those_it_was_made_from(image_set: Path) -> None:
    made, _, _ = finished_run(image_set.parent / "store", image_set, "cam+irn")
    again = prepare(made.experiment, made.images)
    assert all(step.cached for step in again.steps)
    manifest = again.steps[0].folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"digest": "of a network that was trained once more"}))
    after = {step.stage.name: step.reason for step in prepare(made.experiment, made.images).steps}
    reread = {name for name, reason in after.items() if reason == "its inputs were made anew"}
    assert reread == set(after) - {"cam-network"}


@pytest.mark.parametrize("last", [{"until": "amn-maps-score"}, {"only": "amn-maps-score"}])
def test_a_score_that_is_asked_for_needs_masks(image_set: Path, last: dict[str, str]) -> None:
    shutil.rmtree(image_set / "SegmentationClass")
    wanted = experiment(request(image_set))
    images = open_images_of(wanted, make=False)
    assert images is not None
    with pytest.raises(WrongInput, match="amn-maps-score cannot be made: the list train has no masks"):
        plan_with(planner(wanted, images), wanted, **last)
