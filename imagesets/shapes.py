"""The built-in image set: scenes of creatures, in which weak supervision meets the difficulties that the papers describe.

* Each class has one small discriminative part, its head; the body is shared by the classes of a family, which it confuses.
* Each class lives in a typical context most of the time, so that the background is evidence too.
* One to three classes, several objects per image; edges in colour and in texture, light falloff and noise.

The scenes are drawn, not shipped: the same settings give the same files, byte for byte, on one machine and library versions.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesets import creatures, scenery
from imagesets.creatures import FAMILIES, Colour, Pose
from imagesets.image_set import IMAGES, LABEL_LIST, LISTS
from imagesets.item import VOID
from imagesets.palette import save_label_map


@dataclass(frozen=True)
class Kind:
    """A class: its family, which it shares with another class, the head that tells it apart, and its typical context."""

    family: str
    head: tuple[str, Colour, Colour]
    context: str


CLASSES = {
    "redfish": Kind("fish", ("bars", (214, 38, 32), (246, 214, 190)), "sea"),
    "bluefish": Kind("fish", ("rings", (34, 60, 204), (240, 226, 90)), "riverbed"),
    "goldbird": Kind("bird", ("checks", (244, 196, 24), (40, 32, 20)), "foliage"),
    "violetbird": Kind("bird", ("halves", (148, 44, 176), (246, 170, 214)), "sky"),
    "whitegoat": Kind("goat", ("waves", (244, 244, 240), (28, 28, 32)), "rock"),
    "tealgoat": Kind("goat", ("spots", (16, 168, 156), (250, 250, 210)), "meadow"),
}
NAMES = tuple(CLASSES)
CLASSES_PER_IMAGE = (0.45, 0.4, 0.15)  # probability of one, two and three
TYPICAL_CONTEXT = 0.75  # probability that an image shows the typical context of its first class
SECOND_OBJECT = 0.35  # probability that a class shows two objects
LENGTHS = (0.28, 0.6)  # of a creature, as fractions of the image side


def folder(parent: Path, settings: Mapping[str, Any]) -> Path:
    """Where under `parent` the image set with these settings lies: the name tells the settings and the drawing code apart."""
    code = b"".join(Path(module.__file__ or "").read_bytes() for module in (creatures, scenery)) + Path(__file__).read_bytes()
    used = json.dumps([settings[name] for name in ("size", "train_images", "val_images", "drawing_seed")])
    return parent / f"shapes-{hashlib.blake2b(used.encode() + code, digest_size=4).hexdigest()}"


def generate(root: Path, settings: Mapping[str, Any]) -> None:
    """Draw the image set in VOC layout into `root`, which must not exist and appears whole or not at all.

    `settings`: `size` (side in pixels), `train_images`, `val_images`, `drawing_seed`.
    """
    temporary = root.with_name(f".{root.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    for name in (IMAGES, "SegmentationClass", LISTS):
        (temporary / name).mkdir(parents=True)
    (temporary / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    lines: list[str] = []
    for number, split in enumerate(("train", "val")):
        ids = [f"{split}_{index:05d}" for index in range(settings[f"{split}_images"])]
        (temporary / LISTS / f"{split}.txt").write_text("".join(f"{id}\n" for id in ids))
        for index, id in enumerate(ids):
            rng = np.random.default_rng([settings["drawing_seed"], number, index])
            lines.append(" ".join([id, *_write_scene(temporary, id, *scene(index, settings["size"], rng))]))
    (temporary / LABEL_LIST).write_text("".join(f"{line}\n" for line in lines))
    try:
        temporary.rename(root)
    except OSError:  # somebody else has drawn the same files meanwhile
        shutil.rmtree(temporary)
        if not root.is_dir():
            raise


def scene(index: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One scene: RGB uint8 [side,side,3] and its label map uint8 [side,side]; `index` turns through the classes evenly."""
    first = index % len(NAMES)
    others = rng.permutation([number for number in range(len(NAMES)) if number != first])
    count = rng.choice(len(CLASSES_PER_IMAGE), p=CLASSES_PER_IMAGE)
    shown = [int(number) for number in (first, *others[:count]) for _ in range(1 + (rng.random() < SECOND_OBJECT))]
    typical = CLASSES[NAMES[first]].context
    context = typical if rng.random() < TYPICAL_CONTEXT else str(rng.choice([name for name in scenery.CONTEXTS if name != typical]))
    canvas = scenery.paint(scenery.CONTEXTS[context], side, rng)
    objects = np.zeros((side, side), np.uint8)  # 0 background, n + 1 the n-th creature
    poses = place(len(shown), side, rng)
    for number, (kind, pose) in enumerate(zip(shown, poses, strict=False)):
        look = CLASSES[NAMES[kind]]
        objects[creatures.draw(canvas, FAMILIES[look.family], look.head, pose, rng)] = number + 1
    canvas += rng.normal(0, rng.uniform(3, 9), canvas.shape)
    values = np.array([0, *(kind + 1 for kind in shown)], np.uint8)
    return np.clip(canvas, 0, 255).astype(np.uint8), np.where(_outlines(objects), VOID, values[objects]).astype(np.uint8)


def place(count: int, side: int, rng: np.random.Generator) -> list[Pose]:
    """Poses of up to `count` creatures that hardly cover each other; one that finds no room shrinks, then stays away."""
    poses: list[Pose] = []
    for _ in range(count):
        length = rng.uniform(*LENGTHS) * side
        while length >= LENGTHS[0] * side * 0.75:
            centre = tuple(rng.uniform(0.48 * length, side - 0.48 * length, 2))
            if all(np.hypot(centre[0] - other.centre[0], centre[1] - other.centre[1]) > 0.4 * (length + other.length) for other in poses):
                poses.append(Pose(centre, length, rng.normal(0, 0.25), bool(rng.random() < 0.5)))
                break
            length *= 0.96
    return poses


def _outlines(objects: np.ndarray) -> np.ndarray:
    """Pixels whose four neighbours are not all of the same object: a void border of one pixel on either side."""
    border = np.zeros(objects.shape, bool)
    for axis in (0, 1):
        change = np.diff(objects, axis=axis) != 0
        border |= np.pad(change, [(0, 1) if axis == a else (0, 0) for a in (0, 1)])
        border |= np.pad(change, [(1, 0) if axis == a else (0, 0) for a in (0, 1)])
    return border


def _write_scene(root: Path, id: str, rgb: np.ndarray, label: np.ndarray) -> list[str]:
    """Write one image and its mask; returns the names of the classes it shows."""
    Image.fromarray(rgb).save(root / IMAGES / f"{id}.jpg", quality=92)
    save_label_map(root / "SegmentationClass" / f"{id}.png", label)
    return [NAMES[value - 1] for value in np.unique(label) if 0 < value < VOID]
