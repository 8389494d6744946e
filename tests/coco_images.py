"""A tiny folder in COCO 2014's layout: coloured rectangles on noise, images without annotations, crowds, grey images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesets.coco import open_coco14
from imagesets.coco_preparation import prepare_coco14
from imagesets.image_set import ImageSet

GOLDEN = Path(__file__).parent / "golden"
PERSON, DOG = 1, 18  # COCO's ids
COLOURS = {PERSON: (220, 40, 40), DOG: (40, 60, 220)}
CATEGORIES = [{"id": DOG, "name": "dog"}, {"id": PERSON, "name": "person"}]  # in another order than that of the ids
SIZE = (48, 56)  # height and width
SHOWN = ((PERSON,), (), (PERSON, DOG), (DOG,))  # categories, in turn
COCO = {"labels": "auto", "masks": ["SegmentationClass"]}  # settings of the image set, besides the rule
SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]  # a polygon


def write_coco(root: Path, train: int = 8, val: int = 4, categories: Sequence[dict] = CATEGORIES) -> Path:
    """The images of both lists and their annotations. Every sixth image has a crowd as well, every fourth is grey."""
    for number, (name, count) in enumerate((("train", train), ("val", val))):
        (root / f"{name}2014").mkdir(parents=True)
        found: dict[str, list] = {"images": [], "annotations": [], "categories": list(categories)}
        for place in range(count):
            _add(found, root / f"{name}2014", f"COCO_{name}2014_", 1000 * number + place)
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{name}2014.json").write_text(json.dumps(found))
    return root


def _add(found: dict[str, list], folder: Path, prefix: str, number: int) -> None:
    rng, (height, width) = np.random.default_rng(number), SIZE
    rgb = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
    for category in SHOWN[number % len(SHOWN)]:
        left, top = 2 + 28 * (category == DOG), int(rng.integers(2, 12))
        right, bottom = left + 22, top + 26
        rgb[top:bottom, left:right] = COLOURS[category]
        polygon = [[left, top, right, top, right, bottom, left, bottom]]
        found["annotations"].append(annotation(number, category, polygon, id=len(found["annotations"])))
    if number % 6 == 5:  # above the last rows, down all columns
        crowd = {"size": [height, width], "counts": [height * width - 40, 40]}
        found["annotations"].append(annotation(number, PERSON, crowd, iscrowd=1, id=len(found["annotations"])))
    name = f"{prefix}{number:012d}.jpg"
    found["images"].append({"id": number, "file_name": name, "height": height, "width": width})
    Image.fromarray(rgb).convert("L" if number % 4 == 3 else "RGB").save(folder / name, quality=95)


def annotation(image: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def settings(rule: str) -> dict[str, Any]:
    return COCO | {"rule": rule}


def opened(root: Path, rule: str = "recam") -> ImageSet:
    """The image set, prepared first."""
    prepare_coco14(str(root), settings(rule))
    return open_coco14(root, settings(rule))
