"""VOC's augmented training list from the Semantic Boundaries Dataset."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from imagesets.errors import WrongInput
from imagesets.sbd import prepare, read_mask
from imagesets.voc12 import open_voc12
from tests.conftest import Command

VOC_TRAIN, VOC_VAL = ("2007_1", "2007_2"), ("2007_3",)
SBD_TRAIN, SBD_VAL = ("2007_2", "2008_5"), ("2007_3", "2008_4")
SETTINGS = {"labels": "masks", "masks": ["SegmentationClass", "SegmentationClassAug"]}


def save(path: Path, label: np.ndarray) -> None:
    savemat(path, {"GTcls": {"Segmentation": label, "Boundaries": np.zeros((20, 1))}})


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for id in {*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL}:
        Image.new("RGB", (4, 3)).save(root / "JPEGImages" / f"{id}.jpg")
    for name, ids in (("train", VOC_TRAIN), ("val", VOC_VAL)):
        (root / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids))
        for id in ids:
            Image.fromarray(np.full((3, 4), 7, np.uint8)).save(root / "SegmentationClass" / f"{id}.png")
    return root


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    root = tmp_path / "benchmark_RELEASE"
    (root / "dataset/cls").mkdir(parents=True)
    for name, ids in (("train", SBD_TRAIN), ("val", SBD_VAL)):
        (root / "dataset" / f"{name}.txt").write_text("\n".join(ids))
        for number, id in enumerate(ids):
            save(root / "dataset/cls" / f"{id}.mat", np.full((3, 4), 10 + number, np.uint8))
    return root


def test_the_list_is_train_and_sbd_without_val_and_voc_s_masks_stand(voc: Path, sbd: Path) -> None:
    assert prepare(str(voc.parent), sbd) == (4, 2)
    images = open_voc12(voc, SETTINGS)
    items = images.items("train_aug", with_masks=True)
    assert [item.id for item in items] == ["2007_1", "2007_2", "2008_4", "2008_5"]
    assert [np.unique(item.truth()).tolist() for item in items] == [[7], [7], [11], [11]]
    assert sorted(path.name for path in (voc / "SegmentationClassAug").iterdir()) == ["2008_4.png", "2008_5.png"]


def test_a_second_call_writes_nothing_and_one_that_was_stopped_goes_on(voc: Path, sbd: Path) -> None:
    prepare(str(voc), sbd)
    assert prepare(str(voc), sbd / "dataset") == (4, 0)
    (voc / "ImageSets/Segmentation/train_aug.txt").unlink()
    (voc / "SegmentationClassAug/2008_5.png").unlink()
    assert prepare(str(voc), sbd) == (4, 1)


def test_a_full_disk_leaves_no_part_of_the_list(voc: Path, sbd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_a_file(path: Path, text: str, **_: object) -> None:
        path.write_bytes(b"2007")
        raise OSError("no space left")

    before = sorted((voc / "ImageSets/Segmentation").iterdir())
    monkeypatch.setattr(Path, "write_text", half_a_file)
    with pytest.raises(OSError, match="no space"):
        prepare(str(voc), sbd)
    assert sorted((voc / "ImageSets/Segmentation").iterdir()) == before


def test_what_is_not_whole_is_refused_before_anything_is_written(voc: Path, sbd: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="is not SBD; it needs the folder cls"):
        prepare(str(voc), tmp_path / "VOCdevkit")
    (sbd / "dataset/cls/2008_4.mat").unlink()
    with pytest.raises(WrongInput, match="lacks 1 masks of SBD: 2008_4"):
        prepare(str(voc), sbd)
    (voc / "SegmentationClass/2007_2.png").unlink()
    with pytest.raises(WrongInput, match="lacks 1 masks of VOC's train: 2007_2"):
        prepare(str(voc), sbd)
    (sbd / "dataset/val.txt").unlink()
    with pytest.raises(WrongInput, match=r"val.txt is missing"):
        prepare(str(voc), sbd)
    assert not (voc / "SegmentationClassAug").exists() and not (voc / "ImageSets/Segmentation/train_aug.txt").exists()


def test_another_list_of_that_name_is_kept(voc: Path, sbd: Path) -> None:
    path = voc / "ImageSets/Segmentation/train_aug.txt"
    path.write_text("2007_1\n")
    with pytest.raises(WrongInput, match="is there already, with other images"):
        prepare(str(voc), sbd)
    assert path.read_text() == "2007_1\n"


def test_a_file_that_is_no_label_map_is_named(tmp_path: Path) -> None:
    path = tmp_path / "2008_4.mat"
    path.write_bytes(b"no MATLAB file" * 20)
    with pytest.raises(WrongInput, match=r"2008_4.mat is not a class file of SBD"):
        read_mask(path)
    path.write_bytes(b"")
    with pytest.raises(WrongInput, match=r"2008_4.mat is not a class file of SBD"):
        read_mask(path)
    savemat(path, {"other": 1})
    with pytest.raises(WrongInput, match=r"2008_4.mat is not a class file of SBD"):
        read_mask(path)
    save(path, np.full((3, 4), 21, np.uint8))
    with pytest.raises(WrongInput, match="no label map of VOC's 20 classes"):
        read_mask(path)


def test_the_command_tells_what_it_made(voc: Path, sbd: Path, command: Command) -> None:
    code, shown, errors = command("images", "prepare", f"voc12:{voc}", "--sbd", sbd)
    assert code == 0 and shown.strip() == "train_aug: 4 images; 2 masks written to SegmentationClassAug", errors
    code, _, errors = command("images", "prepare", f"folder:{voc}")
    assert code == 2 and "there is nothing to prepare in folder:" in errors and "voc12:PATH can be prepared" in errors
    code, _, errors = command("images", "prepare", f"voc12:{voc}")
    assert code == 2 and "name it: --sbd benchmark_RELEASE" in errors
