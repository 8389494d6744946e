"""Opening, listing and checking image sets of growing size: time and memory per image.

Run from the repository root: python -m benchmarks.scale_images [--images 10000,100000,1000000]

The files are hard links to a few tiny ones (see `benchmarks.simulated`): what is timed is ours and the file system's, not the
decoding of real images. Fails where a label or an image is lost.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.clock import Cost, costs
from benchmarks.simulated import CLASSES, write_images
from imagesets.check import check
from imagesets.folder import open_folder


def measure(count: int, folder: Path) -> None:
    """Print all figures of one size."""
    root = write_images(folder / "images", count)
    phases: dict[str, Cost] = {}
    with costs() as phases["open, labels read"]:
        images = open_folder(root, {"labels": "list", "masks": ["JPEGImages"]})
    with costs() as phases["list with masks"]:
        items = images.items("train", with_masks=True)
    with costs() as phases["go over the list"]:
        labels = sum(len(item.labels) for item in items)
    with costs() as phases["check, decoding all"]:
        problems = check(images, ["train"], ["train"]).problems
    assert len(items) == count and labels == sum(1 + number % 997 % 3 for number in range(count)) and not problems, problems[:3]
    print(f"{count} images, {CLASSES} classes")
    for name, cost in phases.items():
        each = f"{1e6 * cost.cpu / count:7.1f} us CPU and {1024 * cost.rise / count:5.2f} kB peak an image"
        print(f"  {name:20} {cost.wall:7.2f} s, {each}", flush=True)


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="10000,100000", help="sizes, separated by commas")
    parser.add_argument("--folder", default=None, help="where the images lie for the time being; a fast disk or tmpfs")
    asked = parser.parse_args()
    if "," not in asked.images:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            measure(int(asked.images), Path(folder))
        return
    for count in asked.images.split(","):
        command = [sys.executable, "-m", "benchmarks.scale_images", "--images", count]
        subprocess.run([*command, *(["--folder", asked.folder] if asked.folder else [])], check=True)


if __name__ == "__main__":
    main()
