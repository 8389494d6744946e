"""What the benchmarks of scale run on: an image set of any size without its contents, and a cluster of nodes on one machine."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import ray
from ray.cluster_utils import Cluster

from imagesets.image_set import IMAGES, LISTS
from imagesets.labels import LABEL_LIST
from imagesets.palette import save_label_map

CLASSES = 20
LINKS = 10_000  # names per file: file systems allow some ten thousand
OBJECT_STORE = 512 << 20  # bytes per node


def write_images(root: Path, count: int) -> Path:
    """A folder in VOC layout whose list `train` has `count` images of one to three classes.

    Its files are real to whoever lists, stats, opens and decodes them, but are hard links to a few 8x8 label maps, which serve as
    images and as masks alike: time to read a real image's bytes is not in any figure made with them.
    """
    ids = [f"2007_{number:07d}" for number in range(count)]
    (root / IMAGES).mkdir(parents=True)
    (root / LISTS).mkdir(parents=True)
    for start in range(0, count, LINKS):
        first, *others = [root / IMAGES / f"{id}.png" for id in ids[start : start + LINKS]]
        save_label_map(first, np.arange(64, dtype=np.uint8).reshape(8, 8) % (CLASSES + 1))
        for path in others:
            os.link(first, path)
    names = [f"class{number}" for number in range(CLASSES)]
    (root / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (root / LISTS / "train.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    rng = np.random.default_rng(0)
    chosen = [np.sort(rng.choice(CLASSES, 1 + number % 3, replace=False)).tolist() for number in range(997)]
    lines = [f"{id} {' '.join(names[index] for index in chosen[number % 997])}\n" for number, id in enumerate(ids)]
    (root / LABEL_LIST).write_text("".join(lines), encoding="utf-8")
    return root


@contextmanager
def cluster(nodes: int, cpus: int) -> Iterator[str]:
    """The address of a Ray cluster of `nodes` nodes with `cpus` logical CPUs each, all on this machine."""
    # the workers import the benchmark by name
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # not the folder that all of this machine share: it names the cluster that `--address auto` connects to
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as os.environ["RAY_TMPDIR"]:
        started = Cluster()
        try:
            for _ in range(nodes):
                started.add_node(num_cpus=cpus, object_store_memory=OBJECT_STORE, include_dashboard=False)
            yield started.address
        finally:
            ray.shutdown()
            started.shutdown()
            del os.environ["RAY_TMPDIR"]
