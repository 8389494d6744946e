"""Saliency maps as an input: which files are taken, what is told before anything runs, whose keys they count in."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagesets.border_contrast import border_contrast
from imagesets.errors import WrongInput
from imagesets.item import Item
from imagesets.saliency import SaliencyMaps, read_saliency, saliency_problems
from maps.labelling import label_map
from orchestrator.engine.checks import check_imports
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.refusals import problems, refuse_run, unread
from orchestrator.reading.protocol import protocol
from refiners.saliency import salient_labels
from tests.golden_vectors import golden
from tests.planned_run import planned

BATCHES = ("eps.batch=4", "edam.batch=4", "backbone.name=small", "edam.backbone=small", "edam.weights=none")


@pytest.fixture
def maps(image_set: Path) -> Path:
    folder = image_set.parent / "Saliency"
    folder.mkdir()
    for path in (image_set / "JPEGImages").iterdir():
        Image.fromarray(np.full((5, 7), 200, np.uint8)).save(folder / f"{path.stem}.png")
    return folder


def plan(image_set: Path, maps: Path | str, method: str) -> Prepared:
    return planned(image_set, f"images.saliency={maps}", *BATCHES, method=method)


def test_labels_of_crf_scores_and_of_maps_are_the_public_code_s() -> None:
    ref = golden("edam_saliency_post")
    keys = ref["keys"].numpy() - 1  # the file has label values
    for name, scores in (("crf", ref["crf_scores"][1:]), ("cam", ref["cam_fg"])):
        found = salient_labels(scores, ref["saliency"], keys, 0.2)
        np.testing.assert_array_equal(found, ref[f"pred_sal_on_{name}"].numpy())
    np.testing.assert_array_equal(label_map(ref["cam_fg"], keys, 0.5), ref["pred_thr_on_cam"].numpy())


@settings(max_examples=20)
@given(st.integers(0, 30), st.floats(0, 2.55))
def test_where_nothing_is_salient_only_a_certain_class_stays(seed: int, threshold: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores, saliency = torch.rand(2, 6, 7, generator=draw), torch.randint(0, 256, (6, 7), generator=draw)
    scores[0, 0] = 1.0
    labels = salient_labels(scores, saliency, np.array([1, 4]), threshold)
    salient = (saliency > 100 * threshold).numpy()
    assert (labels[0] == 2).all() and ((labels[1:] > 0) == salient[1:]).all()
    assert not salient_labels(scores[:0], saliency, np.array([], int), threshold).any()


def test_of_two_certain_classes_the_first_wins() -> None:
    scores = torch.tensor([[[0.999995, 0.2]], [[1.0, 1.0]]])
    assert salient_labels(scores, torch.zeros(1, 2, dtype=torch.uint8), np.array([1, 4]), 0.2).tolist() == [[2, 5]]


def test_what_is_wrong_with_a_folder_is_told_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    grey = Image.fromarray(np.full((4, 4), 200, np.uint8))
    grey.save(folder / "good.bmp")
    grey.convert("RGB").save(folder / "coloured.png")
    (folder / "broken.png").write_bytes(b"no image")
    grey.save(folder / "twice.png")
    grey.save(folder / "twice.jpg")
    items = [Item(id, Path(), ()) for id in ("good", "coloured", "broken", "twice", "missing")]
    told = saliency_problems(str(folder), items)
    assert len(told) == 4
    assert "has no file for 1 of 5 images (missing)" in told[0]
    assert any("coloured.png is an image of mode RGB" in one for one in told)
    assert any("broken" in one and "cannot be read" in one for one in told)
    assert any("2 files for the image twice" in one for one in told)
    with pytest.raises(WrongInput, match="greyscale of 8 bits"):
        read_saliency(folder / "coloured.png")
    assert SaliencyMaps.of(str(folder))(items[0], np.zeros((9, 9, 3), np.uint8)).shape == (4, 4)


@pytest.mark.parametrize("highest", [0, 1, 2])
def test_maps_in_which_nothing_is_salient_are_refused(tmp_path: Path, highest: int) -> None:
    for id, value in (("a", 0), ("b", highest)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / f"{id}.png")
    told = saliency_problems(str(tmp_path), [Item(id, Path(), ()) for id in ("a", "b")])
    assert [f"has a value above {highest}; 255 is salient" in one for one in told] == [True] * (highest < 2)


@pytest.mark.parametrize("method", ["edam", "eps", "eps+recam", "edam+lpcam", "cam+saliency"])
def test_without_maps_one_sentence_says_what_a_method_needs(method: str) -> None:
    wanted = experiment(Request(method, "voc12:x"))
    (told,) = [one for one in problems(wanted, wanted.stages, {}) if "saliency" in one]
    assert told.startswith(f"{method} needs saliency maps: --saliency DIR names a folder")


@pytest.mark.parametrize("method", ["edam+crf", "edam+none", "cam+irn"])
def test_other_refiners_need_no_maps(method: str) -> None:
    wanted = experiment(Request(method, "voc12:x"))
    assert not [one for one in problems(wanted, wanted.stages, {}) if "saliency" in one]


def test_missing_and_damaged_maps_are_told_at_once_before_anything_runs(image_set: Path, maps: Path) -> None:
    (maps / "train_0.png").unlink()
    (maps / "train_1.png").write_bytes(b"damaged")
    made = plan(image_set, maps, "eps+recam")  # two trainings read the folder
    with pytest.raises(WrongInput) as refused:
        check_imports(made.steps, made.images)
    told = str(refused.value)
    assert told.startswith("2 problems in the settings and files of the run, nothing was run") and "(train_0)" in told
    assert "cannot be read" in told and "train_1.png" in told
    with pytest.raises(WrongInput, match="is no existing folder; it takes the path of a folder, or none or contrast"):
        plan(image_set, maps / "elsewhere", "eps")


def test_a_folder_counts_by_its_content_in_the_keys_of_its_readers(image_set: Path, maps: Path) -> None:
    before = {method: keys(plan(image_set, maps, method)) for method in ("edam", "eps+recam")}
    shutil.copytree(maps, other := maps.parent / "other")
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(other / "val_0.png")  # of no stage's list
    assert keys(plan(image_set, other, "edam")) == before["edam"]
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(other / "train_0.png")
    after = {method: keys(plan(image_set, other, method)) for method in before}
    same = {method: [name for name, key in made.items() if after[method][name] == key] for method, made in before.items()}
    assert same == {"edam": ["edam-network", "edam-maps", "edam-maps-score"], "eps+recam": []}


def keys(made: Prepared) -> dict[str, str]:
    return {step.stage.name: step.key for step in made.steps}


def test_every_result_behind_which_saliency_is_says_so(image_set: Path, maps: Path) -> None:
    for method, told in (("edam", {"edam-maps-score": False, "saliency-masks-score": True}), ("eps", {"eps-maps-score": True})):
        made = plan(image_set, maps, method)
        steps = {step.stage.name: step for step in made.steps}
        for name, says in {**told, "deeplabv2-predictions-score": True}.items():
            found = protocol(made, [steps[name]])
            assert found.get("supervision") == ("image-level labels + saliency" if says else None)


def test_maps_that_nothing_reads_are_told(maps: Path) -> None:
    wanted = experiment(Request("cam+none", "voc12:x", assignments=(f"images.saliency={maps}",)))
    assert any("nothing in cam+none reads images.saliency" in one for one in unread(wanted))


def test_colours_unlike_the_border_s_are_salient() -> None:
    rgb = np.random.default_rng(0).integers(90, 130, (60, 80, 3), dtype=np.uint8)
    rgb[20:40, 30:50] = (230, 30, 30)
    found = border_contrast(rgb)
    assert found.dtype == np.uint8 and found[25:35, 35:45].min() > 200 and found[:10].max() < 60
    np.testing.assert_array_equal(found, border_contrast(rgb))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 500)])
def test_contrast_is_there_for_any_image(size: tuple[int, int]) -> None:
    assert border_contrast(np.full((*size, 3), 77, np.uint8)).shape == size


def test_contrast_needs_no_folder(image_set: Path) -> None:
    made = plan(image_set, "contrast", "eps")
    refuse_run(made)
    check_imports(made.steps, made.images)
