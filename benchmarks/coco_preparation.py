"""Preparing annotations of COCO 2014's size, and planning and checking the images: seconds and memory.

Run from the repository root: python -m benchmarks.coco_preparation [--images 82783] [--drawn 2000] [--folder DIR]

The annotations are drawn at random: 7.3 objects an image, in a file of about COCO's size (333 MB for train2014). The images are hard
links to a few 640x480 ones. So are the masks beyond those that --drawn asks for: time to read real files is in no figure.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.clock import costs, memory
from benchmarks.simulated import LINKS
from imagesets.coco_categories import IDS, NAMES
from imagesets.coco_preparation import Drawing, Labels, prepare_coco14
from imagesets.palette import save_label_map
from orchestrator.engine.in_processes import in_processes

OBJECTS = 604_907 / 82_783  # in an image of train2014
CROWDS = 0.012  # of the objects
POINTS = 27  # of a polygon, in the median; then the file has COCO's size
WIDTH, HEIGHT = 640, 480
SETTINGS = {"rule": "recam"}


def write_annotations(path: Path, count: int) -> int:
    """A file of annotations of `count` images; returns the number of annotations."""
    rng, objects = np.random.default_rng(0), 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "drawn"}, "images": [')
        file.write(", ".join(json.dumps(_image(number)) for number in range(count)))
        file.write('], "licenses": [], "annotations": [')
        for number in range(count):
            for _ in range(rng.poisson(OBJECTS)):
                file.write((", " if objects else "") + json.dumps(_annotation(objects, number, rng)))
                objects += 1
        categories = [{"supercategory": "thing", "id": id, "name": name} for id, name in zip(IDS, NAMES, strict=True)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return objects


def _image(number: int) -> dict[str, object]:
    return {
        "license": 5,
        "file_name": f"COCO_train2014_{number:012d}.jpg",
        "coco_url": f"http://images.cocodataset.org/train2014/COCO_train2014_{number:012d}.jpg",
        **{"height": HEIGHT, "width": WIDTH, "date_captured": "2013-11-14 16:28:13"},
        **{"flickr_url": f"http://farm4.staticflickr.com/3153/{number}_cb3d4_z.jpg", "id": number},
    }


def _annotation(object_: int, image: int, rng: np.random.Generator) -> dict[str, object]:
    """A ragged disc, or a crowd of many short runs."""
    count = max(int(rng.lognormal(np.log(POINTS), 0.6)), 3)
    angles, radius = np.sort(rng.uniform(0, 2 * np.pi, count)), rng.lognormal(np.log(35), 0.9)
    centre, reach = rng.uniform((0, 0), (WIDTH, HEIGHT)), radius * rng.uniform(0.7, 1.3, (count, 1))
    points = (centre + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)).clip(0, (WIDTH, HEIGHT)).round(2)
    segmentation: object = [points.ravel().tolist()]
    if crowd := rng.random() < CROWDS:
        runs = rng.integers(1, 400, 600).tolist()
        segmentation = {"counts": [*runs, WIDTH * HEIGHT - sum(runs)], "size": [HEIGHT, WIDTH]}
    return {
        **{"segmentation": segmentation, "area": round(radius**2 * 3.1, 4), "iscrowd": int(crowd), "image_id": image},
        **{"bbox": [*points.min(0).tolist(), *np.ptp(points, axis=0).round(2).tolist()]},
        **{"category_id": int(rng.choice(IDS)), "id": object_},
    }


def write_links(folder: Path, names: Sequence[str], write: Callable[[Path], None]) -> None:
    """Files of these names, hard links to one for every LINKS of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(names), LINKS):
        first, *others = [folder / name for name in names[start : start + LINKS]]
        write(first)
        for path in others:
            os.link(first, path)


class First:
    """A way to spread the work that draws the first `limit` masks and links the others; its time is the drawing's alone."""

    def __init__(self, limit: int, masks: Path, processes: int):
        self.limit, self.masks, self.processes, self.seconds, self.drawn = limit, masks, processes, 0.0, 0

    def __call__(self, work: Callable[[Sequence[Drawing]], Labels], parts: Iterable[Sequence[Drawing]]) -> Iterator[Labels]:
        """The masks' labels, part by part."""
        left = iter(parts)
        wanted = list(part for part, _ in zip(left, range(-(-self.limit // 32)), strict=False))
        list(in_processes(self.processes, work, wanted[:1]))  # the start of the processes is not the drawing's
        started = time.perf_counter()
        yield from in_processes(self.processes, work, wanted[1:])
        self.seconds, self.drawn = time.perf_counter() - started, sum(map(len, wanted[1:]))
        yield from ({drawing.path.stem: () for drawing in part} for part in left)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=82_783)
    parser.add_argument("--drawn", type=int, default=2000, help="masks that are drawn for the time of one")
    parser.add_argument("--folder", default=None, help="where the files lie for the time being")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        measure(Path(folder), asked.images, asked.drawn)


if __name__ == "__main__":
    main()
