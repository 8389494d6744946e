"""The built-in image set: the same files every time, no problems in its check, and the difficulties that it is made for."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from imagesets import shapes
from imagesets.check import check
from imagesets.drawing import scene
from imagesets.drawing.body_plans import FAMILIES
from imagesets.findings import Findings
from imagesets.folder import open_folder
from imagesets.item import VOID

SETTINGS = {"size": 64, "train_images": 12, "val_images": 5, "drawing_seed": 0, "labels": "auto", "masks": ["SegmentationClass"]}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def some_scenes(count: int = 60) -> list[tuple[np.ndarray, np.ndarray]]:
    return [scene.scene(index, 96, np.random.default_rng([1, index])) for index in range(count)]


def test_equal_settings_give_equal_files_byte_for_byte(tmp_path):
    for name in ("one", "two"):
        shapes.generate(tmp_path / name, SETTINGS)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_more_images_never_change_those_there_were(tmp_path):
    shapes.generate(tmp_path / "few", SETTINGS)
    shapes.generate(tmp_path / "more", {**SETTINGS, "train_images": 14, "val_images": 6})
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    pictures = [name for name in few if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 2 * 17 and all(few[name] == more[name] for name in pictures)


def test_the_folder_tells_apart_what_is_drawn_and_nothing_else(tmp_path):
    folder = shapes.folder(tmp_path, SETTINGS)
    changes = {"size": 65, "train_images": 13, "val_images": 6, "drawing_seed": 1}
    changed = {shapes.folder(tmp_path, {**SETTINGS, name: value}) for name, value in changes.items()}
    assert len(changed | {folder}) == 5
    assert shapes.folder(tmp_path, {**SETTINGS, "labels": "masks"}) == folder


def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "save_label_map", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        shapes.generate(tmp_path / "shapes", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_of_one_number_on_two_hosts_draw_apart(tmp_path, monkeypatch):
    draw, places = scene.write_image_set, []

    def fail(root, settings):
        raise OSError("no space left")

    def drawn_beside_one_that_fails(root, settings):
        draw(root, settings)
        monkeypatch.setattr(scene, "write_image_set", fail)
        with pytest.raises(OSError, match="no space"):
            shapes.generate(tmp_path / "shapes", settings)
        places.append(root)

    monkeypatch.setattr(scene, "write_image_set", drawn_beside_one_that_fails)
    shapes.generate(tmp_path / "shapes", SETTINGS)
    assert places and len(list((tmp_path / "shapes/JPEGImages").iterdir())) == 17


def test_an_existing_image_set_is_left_as_it_is(tmp_path):
    shapes.generate(tmp_path / "shapes", SETTINGS)
    before = contents(tmp_path / "shapes")
    shapes.generate(tmp_path / "shapes", {**SETTINGS, "drawing_seed": 1})
    assert contents(tmp_path / "shapes") == before


def test_it_is_read_by_the_voc_code_and_checks_clean(tmp_path):
    shapes.generate(tmp_path / "shapes", SETTINGS)
    images = open_folder(tmp_path / "shapes", SETTINGS)
    assert check(images, ["train", "val"], ["train", "val"]) == Findings()
    assert images.classes == scene.NAMES and len(images.items("train")) == 12 and len(images.items("val")) == 5
    from_masks = open_folder(tmp_path / "shapes", {**SETTINGS, "labels": "masks"})
    assert [item.labels for item in from_masks.items("train")] == [item.labels for item in images.items("train")]


def test_scenes_show_one_to_three_classes_and_each_class_about_as_often():
    shown = [set(np.unique(label)) - {0, VOID} for _, label in some_scenes()]
    assert {len(labels) for labels in shown} == {1, 2, 3}
    counts = [sum(value in labels for labels in shown) for value in range(1, 7)]
    assert min(counts) >= 10 and max(counts) <= 30


def test_void_is_the_line_between_objects_and_nothing_else():
    for _, label in some_scenes(12):
        background = label == 0
        touching = (label[:, 1:] != label[:, :-1]) & (label[:, 1:] != VOID) & (label[:, :-1] != VOID)
        assert not touching.any()
        assert 0.3 < background.mean() < 0.97 and 0 < (label == VOID).mean() < 0.25


def test_void_surrounds_every_object_by_one_pixel_on_either_side():
    objects = np.zeros((6, 6), np.uint8)
    objects[:, 3:] = 1
    np.testing.assert_array_equal(scene.outlines(objects), np.isin(np.arange(6), (2, 3))[None].repeat(6, axis=0))


def test_creatures_keep_their_distance_and_fit_in():
    for seed in range(50):
        poses = scene.place(4, 128, np.random.default_rng(seed))
        assert 1 <= len(poses) <= 4
        for one, other in itertools.combinations(poses, 2):
            assert np.hypot(one.centre[0] - other.centre[0], one.centre[1] - other.centre[1]) > 0.4 * (one.length + other.length)
        assert all(0.2 * 128 <= pose.length <= 0.62 * 128 for pose in poses)


def test_each_family_has_two_classes_with_different_faces_and_contexts():
    looks = [look for look, _ in scene.CLASSES.values()]
    assert sorted(look.family for look in looks) == sorted([*FAMILIES, *FAMILIES])
    assert len({look.face for look in looks}) == len({context for _, context in scene.CLASSES.values()}) == 6


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_discriminative_head_is_much_smaller_than_the_shared_body(family):
    v, u = np.mgrid[-1:1:200j, -1:1:200j]
    head = family.head(u, v) < 0
    body = (family.body(u, v) < 0) & ~head
    assert 0.1 < head.sum() / (head | body).sum() < 0.4
