"""Preparing annotations of COCO 2014's size, and planning and checking the images: seconds and memory.

Run from the repository root: python -m benchmarks.coco_preparation [--images 82783] [--drawn 2000] [--folder DIR]

The annotations are drawn at random: 7.3 objects an image, in a file of about COCO's size (333 MB for train2014). The images are
hard links to a few 640x480 ones. So are the masks beyond those that --drawn asks for: time to read real files is in no figure.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.clock import costs, memory
from benchmarks.simulated import LINKS
from imagesets.coco_categories import IDS, NAMES
from imagesets.coco_preparation import AT_ONCE, Drawing, Labels, prepare_coco14
from imagesets.image_set import MASKS
from imagesets.palette import save_label_map
from orchestrator.engine.in_processes import in_processes
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.prepared import open_images_of, prepare

OBJECTS = 604_907 / 82_783  # in an image of train2014
OF_VAL = 40_504 / 82_783  # images for one of train
CROWDS = 0.012  # of the objects
POINTS = 20  # of a polygon, in the median; then the file has COCO's size
WIDTH, HEIGHT = 640, 480
SETTINGS = {"rule": "recam"}
METHOD = "recam+irn"
PLAN = """
import atexit, sys, time
from benchmarks.clock import memory
from orchestrator.cli import main
def tell():
    cpu = f"{time.process_time():.1f} s CPU, peak of memory {memory('VmHWM'):.0f} MB"
    print(f"{time.perf_counter() - started:.1f} s, {cpu}", file=sys.stderr)
started = time.perf_counter()
atexit.register(tell)
main()
"""


def write_annotations(root: Path, name: str, count: int) -> list[str]:
    """The file of annotations of a list of `count` images; returns their ids."""
    rng, objects, path = np.random.default_rng(count), 0, root / "annotations" / f"instances_{name}2014.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "drawn"}, "images": [')
        file.write(", ".join(json.dumps(_image(name, number)) for number in range(count)))
        file.write('], "licenses": [], "annotations": [')
        for number in range(count):
            for _ in range(rng.poisson(OBJECTS)):
                file.write((", " if objects else "") + json.dumps(_annotation(objects, number, rng)))
                objects += 1
        categories = [{"supercategory": "thing", "id": id, "name": name} for id, name in zip(IDS, NAMES, strict=True)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    print(f"{name}: {count} images, {objects} annotations, {path.stat().st_size / 1e6:.0f} MB", flush=True)
    return [f"COCO_{name}2014_{number:012d}" for number in range(count)]


def _image(name: str, number: int) -> dict[str, object]:
    return {
        "license": 5,
        "file_name": f"COCO_{name}2014_{number:012d}.jpg",
        "coco_url": f"http://images.cocodataset.org/{name}2014/COCO_{name}2014_{number:012d}.jpg",
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


def drawn(root: Path, limit: int, processes: int) -> str:
    """Draw the next `limit` masks; returns the milliseconds for one. The start of the processes and the reading do not count."""
    times, counts = list[tuple[float, float]](), list[int]()

    def spread(work: Callable[[Sequence[Drawing]], Labels], parts: Iterable[Sequence[Drawing]]) -> Iterator[Labels]:
        wanted = [] if times else list(islice(parts, 1 + limit // AT_ONCE))  # of the first list
        for labels in in_processes(processes, work, wanted) if processes > 1 else map(work, wanted):
            times.append((time.perf_counter(), time.process_time()))
            counts.append(len(labels))
            yield labels

    prepare_coco14(str(root), SETTINGS, spread)
    wall, cpu = (1000 * (end - start) / sum(counts[1:]) for start, end in zip(times[0], times[-1], strict=True))
    return f"{wall:.2f} ms an image, {cpu:.2f} ms CPU of this process"


def measure(folder: Path, count: int, limit: int) -> None:
    """Print all figures for `count` images of train."""
    root, ids = folder / "coco", list[str]()
    for name, size in (("train", count), ("val", int(count * OF_VAL))):
        listed = write_annotations(root, name, size)
        write_links(root / f"{name}2014", [f"{id}.jpg" for id in listed], Image.new("RGB", (WIDTH, HEIGHT)).save)
        ids += listed
    with costs() as cost:
        prepare_coco14(str(root), SETTINGS, lambda work, parts: ())
    print(f"lists and labels: {cost.wall:.1f} s, {cost.cpu:.1f} s CPU, peak of memory {memory('VmHWM'):.0f} MB", flush=True)
    for processes in sorted({1, len(os.sched_getaffinity(0))}):
        print(f"masks in {processes} processes: {drawn(root, limit, processes)}", flush=True)
    masks = root / "prepared-coco14-recam" / MASKS
    left = [f"{id}.png" for id in ids if not (masks / f"{id}.png").exists()]
    write_links(masks, left, partial(save_label_map, label=np.zeros((HEIGHT, WIDTH), np.uint8)))
    print(f"plan, files hashed: {planned(root, folder / 'store')}", flush=True)
    remember(root, folder / "store")
    print(f"plan, files seen before: {planned(root, folder / 'store')}", flush=True)


def remember(root: Path, store: Path) -> None:
    """Keep the fingerprints of all files, as a launch does when it begins; a plan writes nothing."""
    wanted = experiment(Request(METHOD, f"coco14:{root}", store=store))
    images = open_images_of(wanted, make=False)
    assert images is not None
    planner = prepare(wanted, images).planner
    planner.store.open()
    planner.fingerprints.save()


def planned(root: Path, store: Path) -> str:
    """Seconds and memory of `launch --plan`."""
    words = ["launch", "--method", METHOD, "--images", f"coco14:{root}", "--store", str(store), "--plan"]
    done = subprocess.run([sys.executable, "-c", PLAN, *words], check=True, capture_output=True, encoding="utf-8")
    return done.stderr.splitlines()[-1]


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
