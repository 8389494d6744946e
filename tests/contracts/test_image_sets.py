"""Tests for every image set: it opens, its lists give images with labels, and changes in it are noticed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from imagesets.check import check
from imagesets.coco_preparation import prepare_coco, prepare_coco14
from imagesets.errors import WrongInput
from imagesets.image_set import ImageSet
from imagesets.palette import save_label_map
from orchestrator.planning.fingerprint import Fingerprints
from orchestrator.planning.images import image_layers, images_alone
from orchestrator.planning.recipe import Recipe
from orchestrator.planning.recipes import load_all
from orchestrator.planning.settings import layered, parse_assignments
from tests.coco_images import write_coco
from tests.contracts.images import write_images

RECIPES = [pytest.param(recipe, id=recipe.name) for recipe in load_all().values() if recipe.kind == "images"]
# settings that make any built-in set small
TINY = {"size": 32, "train_images": 4, "val_images": 2}
CLASSES = ("red", "blue")


def voc_layout(root: Path, lists: list[str]) -> Path:
    """A folder that any image set in VOC layout can open. Its labels come from its masks, so class names do not matter."""
    write_images(root, CLASSES, lists, labels=False)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def coco_layout(root: Path, lists: list[str]) -> Path:
    """A folder with COCO's annotations, prepared."""
    write_coco(root)
    for prepare in (prepare_coco, prepare_coco14):
        prepare(str(root), {"rule": "recam"})
    return root


def class_folders(root: Path, lists: list[str]) -> Path:
    """A folder for each class in a folder for each list; images that show both classes are left out."""
    made = write_images(root.parent / "made", CLASSES, lists)
    for id, *names in (line.split() for line in (made / "image_labels.txt").read_text().splitlines()):
        if len(names) < 2:
            place = Path(id.partition("_")[0]) / (names[0] if names else "none") / f"{id}.png"
            for kind, target in (("JPEGImages", root), ("SegmentationClass", root / "masks")):
                (target / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(made / kind / f"{id}.png", target / place)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


# of image sets with another layout
LAYOUTS: dict[str, Callable[[Path, list[str]], Path]] = {
    "coco": coco_layout,
    "coco14": coco_layout,
    "folder-per-class": class_folders,
}


class Opened:
    """An image set of a recipe, in a folder of its own or in the store at `store` where it is built in."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.store, self.spec = recipe, folder / "store", recipe.name
        self.assignments = [f"images.{name}={TINY[name]}" for name in recipe.settings if name in TINY]
        self.settings = layered(recipe, [*image_layers(recipe), parse_assignments(self.assignments)])
        # the lists that a run on it reads, unless it is told of others
        self.training, self.scoring = self.settings["images.training"], self.settings["images.scoring"][0]
        self.validation = self.settings["images.validation"]
        fitting = self.settings["images.fitting"] or self.training
        self.lists = list(dict.fromkeys([self.training, fitting, *self.settings["images.scoring"], *self.validation]))
        if not recipe.make:
            self.spec += f":{LAYOUTS.get(recipe.name, voc_layout)(folder / 'images', self.lists)}"

    def open(self) -> ImageSet:
        return images_alone(self.spec, self.assignments, self.store)[0]


@pytest.fixture(params=RECIPES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    return Opened(request.param, tmp_path)


def test_each_list_that_a_run_reads_gives_images_masks_and_labels_of_its_classes(opened: Opened) -> None:
    images = opened.open()
    assert images.classes and len(set(images.classes)) == len(images.classes)
    for name in opened.lists:
        items = images.items(name, with_masks=images.has_masks(name))
        assert [item.id for item in items] == list(images.ids(name)) and len(items) > 1
        for item in items:
            assert list(item.labels) == sorted(set(item.labels)) and set(item.labels) <= set(range(len(images.classes)))
            rgb = item.rgb()
            assert rgb.shape[2:] == (3,) and (item.mask is None or item.truth().shape == rgb.shape[:2])


def test_masks_and_labels_name_the_same_classes(opened: Opened) -> None:
    images = opened.open()
    for item in images.items(opened.scoring, with_masks=True):
        assert {int(value) - 1 for value in set(item.truth().ravel().tolist()) - {0, 255}} <= set(item.labels)


def test_opened_twice_it_is_the_same(opened: Opened) -> None:
    first, second = opened.open(), opened.open()
    assert first == second
    name = opened.training
    assert list(first.items(name)) == list(second.items(name))


def test_nothing_is_wrong_with_it_until_an_image_of_one_pixel_comes_in(opened: Opened) -> None:
    images = opened.open()
    among = [opened.training], opened.validation[:1]
    assert check(images, opened.lists, opened.lists, *among).problems == []
    path = images.items(opened.training)[0].image
    Image.new("RGB", (1, 1)).save(path)
    assert check(images, opened.lists, (), *among).problems == [f"{path} is 1x1; an image must have at least 2 pixels a side"]


def test_an_image_that_changes_is_noticed_and_a_mask_that_changes_is_none_of_the_images(opened: Opened) -> None:
    images = opened.open()
    name = opened.scoring

    def prints() -> tuple[str, str]:
        items, own = opened.open().items(name, with_masks=True), Fingerprints(opened.store)
        return own.of_images(items), own.of_masks(items)

    first, items = prints(), images.items(name, with_masks=True)
    assert prints() == first
    edited = items[0]
    assert edited.mask is not None
    label = edited.truth().copy()
    label[0, 0] = 255  # no class comes in or goes
    save_label_map(edited.mask, label)
    after_mask = prints()
    assert after_mask[0] == first[0] and after_mask[1] != first[1]
    shutil.copy(items[1].image, edited.image)
    assert prints()[0] != first[0] and prints()[1] == after_mask[1]


def test_ids_are_left_out_of_every_list(opened: Opened) -> None:
    images, name = opened.open(), opened.training
    gone, *rest = images.ids(name)
    (opened.store.parent / "out.txt").write_text(f"{gone}\n")
    assert images.without(opened.store.parent / "out.txt").ids(name) == tuple(rest)


def test_a_folder_that_is_not_there_is_told(opened: Opened, tmp_path: Path) -> None:
    if opened.recipe.make:
        pytest.skip("it is built in and has no folder")
    with pytest.raises(WrongInput, match=str(tmp_path / "nowhere")):
        images_alone(f"{opened.recipe.name}:{tmp_path / 'nowhere'}", [], opened.store)
