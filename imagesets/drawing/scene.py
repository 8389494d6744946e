"""The scenes of the built-in image set, which have the difficulties that the papers describe.

* Each class has one small discriminative part, its head. The classes of a family share the body.
* Each class usually appears in a typical context, so the background is evidence too.
* One to three classes, several objects per image; edges in colour and in texture, light falloff and noise.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesets import folder
from imagesets.drawing import creatures, scenery
from imagesets.drawing.creatures import Look, Pose
from imagesets.image_set import IMAGES, LISTS, MASKS
from imagesets.item import VOID
from imagesets.labels import LABEL_LIST
from imagesets.lists import write_lines
from imagesets.palette import save_label_map

# class name -> what it looks like and its typical context; two classes of a family differ in the face alone
CLASSES = {
    "redfish": (Look("fish", "bars", ((214, 38, 32), (246, 214, 190))), "sea"),
    "bluefish": (Look("fish", "rings", ((34, 60, 204), (240, 226, 90))), "riverbed"),
    "goldbird": (Look("bird", "checks", ((244, 196, 24), (40, 32, 20))), "foliage"),
    "violetbird": (Look("bird", "halves", ((148, 44, 176), (246, 170, 214))), "sky"),
    "whitegoat": (Look("goat", "waves", ((244, 244, 240), (28, 28, 32))), "rock"),
    "tealgoat": (Look("goat", "spots", ((16, 168, 156), (250, 250, 210))), "meadow"),
}
NAMES = tuple(CLASSES)
CLASSES_PER_IMAGE = (0.5, 0.38, 0.12)  # probability of one, two and three classes
TYPICAL_CONTEXT = 0.75  # probability that an image shows the typical context of its first class
SECOND_OBJECT = 0.3  # probability that a class shows two objects
LENGTHS = (0.34, 0.62)  # length of a creature, as fractions of the image side


def scene(index: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One scene: RGB uint8 [side,side,3] and its label map uint8 [side,side]; `index` gives each class in turn."""
    first = index % len(NAMES)
    shown = _kinds(first, rng)
    canvas = scenery.paint(scenery.CONTEXTS[_context(first, rng)], side, rng)
    objects = np.zeros((side, side), np.uint8)  # 0 background, n the n-th creature
    for number, (kind, pose) in enumerate(zip(shown, place(len(shown), side, rng), strict=False), start=1):
        creatures.draw(canvas, objects, number, CLASSES[NAMES[kind]][0], pose, rng)
    canvas += rng.normal(0, rng.uniform(3, 9), canvas.shape)
    values = np.array([0, *(kind + 1 for kind in shown)], np.uint8)
    return np.clip(canvas, 0, 255).astype(np.uint8), np.where(outlines(objects), VOID, values[objects]).astype(np.uint8)


def place(count: int, side: int, rng: np.random.Generator) -> list[Pose]:
    """Poses of up to `count` creatures that hardly cover each other; a creature without room shrinks, then is left out."""
    poses: list[Pose] = []
    for _ in range(count):
        length = rng.uniform(*LENGTHS) * side
        while length >= 0.75 * LENGTHS[0] * side:
            row, column = rng.uniform(0.48 * length, side - 0.48 * length, 2)
            pose = Pose((row, column), length, rng.normal(0, 0.25), bool(rng.random() < 0.5))
            if all(_apart(pose, other) for other in poses):
                poses.append(pose)
                break
            length *= 0.96
    return poses


def outlines(objects: np.ndarray) -> np.ndarray:
    """Pixels of [H,W] whose four neighbours are not all of the same object: a void border of one pixel on either side."""
    border = np.zeros(objects.shape, bool)
    for cells, edges in ((objects, border), (objects.T, border.T)):
        change = cells[1:] != cells[:-1]
        edges[1:] |= change
        edges[:-1] |= change
    return border


def _kinds(first: int, rng: np.random.Generator) -> list[int]:
    others = rng.permutation([number for number in range(len(NAMES)) if number != first])
    count = rng.choice(len(CLASSES_PER_IMAGE), p=CLASSES_PER_IMAGE)
    return [int(kind) for kind in (first, *others[:count]) for _ in range(1 + (rng.random() < SECOND_OBJECT))]


def _context(first: int, rng: np.random.Generator) -> str:
    typical = CLASSES[NAMES[first]][1]
    others = [name for name in scenery.CONTEXTS if name != typical]
    return typical if rng.random() < TYPICAL_CONTEXT else str(rng.choice(others))


def _apart(one: Pose, other: Pose) -> bool:
    distance = np.hypot(one.centre[0] - other.centre[0], one.centre[1] - other.centre[1])
    return bool(distance > 0.4 * (one.length + other.length))


def write_image_set(root: Path, settings: Mapping[str, Any]) -> None:
    """Draw all scenes into `root`, in VOC layout; `settings` as in `imagesets.shapes.generate`."""
    for name in (IMAGES, MASKS, LISTS):
        (root / name).mkdir(parents=True, exist_ok=True)
    lines: list[list[str]] = []
    for number, split in enumerate(("train", "val")):
        ids = [f"{split}_{index:05d}" for index in range(settings[f"{split}_images"])]
        for index, id in enumerate(ids):
            # each scene has its own generator, so more images never change the earlier ones
            rng = np.random.default_rng([settings["drawing_seed"], number, index])
            lines.append([id, *_write_scene(root, id, *scene(index, settings["size"], rng))])
        write_lines(root / LISTS / f"{split}.txt", ids)
    write_lines(root / folder.CLASSES, NAMES)
    write_lines(root / LABEL_LIST, [" ".join(line) for line in lines])


def _write_scene(root: Path, id: str, rgb: np.ndarray, label: np.ndarray) -> list[str]:
    """Write one image and its mask; returns the names of the classes it shows."""
    Image.fromarray(rgb).save(root / IMAGES / f"{id}.jpg", quality=92)
    save_label_map(root / MASKS / f"{id}.png", label)
    return [NAMES[value - 1] for value in np.unique(label) if 0 < value < VOID]
