"""Label maps in the formats of other tools: a folder of PNGs, the archive of VOC's evaluation server, COCO's results."""

import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

from imagesets.coco_categories import category_ids
from imagesets.item import VOID
from imagesets.lists import entry_of, write_lines
from imagesets.palette import palette_image, save_label_map

LabelMaps = Iterable[tuple[str, np.ndarray]]  # image id and its label map uint8 [H,W]
Segmentation = dict[str, object]  # COCO's form: size and counts
COCO_FILE = re.compile(r"(?:COCO_\w+_)?(\d{12})")  # COCO's name for the file of the image with this number


def write_folder(folder: Path, name: str, maps: LabelMaps) -> None:
    """`folder`/<id>.png, palette PNGs, and the list of their ids as `folder`/`name`.txt."""
    ids = list[str]()
    for id, label in maps:
        save_label_map(folder / f"{id}.png", label)
        ids.append(entry_of(id, ".png"))
    write_lines(folder / f"{name}.txt", ids)


def write_server_archive(path: Path, maps: LabelMaps, competition: str) -> None:
    """An archive for the VOC 2012 evaluation server; equal maps give equal bytes.

    `competition` is comp5 (trained on VOC's data alone) or comp6 (on other data as well, such as ImageNet weights).
    """
    inside = f"results/VOC2012/Segmentation/{competition}_test_cls"
    # it holds no user names and no times, so the same maps give the same archive
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for id, label in maps:
            png = io.BytesIO()
            palette_image(label).save(png, format="PNG")
            entry = tarfile.TarInfo(f"{inside}/{id}.png")
            entry.size = png.tell()
            png.seek(0)
            archive.addfile(entry, png)


def write_coco_results(folder: Path, maps: LabelMaps, classes: Sequence[str]) -> None:
    """`results.json` in COCO's format (pycocotools' `loadRes`), and `dataset.json` with the meaning of its ids.

    A result is the region of one class in one image: image_id, category_id, segmentation (compressed run lengths) and score,
    which is 1. Background and void have no result. The ids are COCO's own if all images have the names of COCO's files;
    otherwise images and classes are numbered from 1.
    """
    sizes, regions = list[tuple[str, tuple[int, ...]]](), list[tuple[int, int, Segmentation]]()
    for place, (id, label) in enumerate(maps):
        sizes.append((id, label.shape))
        regions += ((place, value, segmentation) for value, segmentation in coco_regions(label))
    images = coco_image_ids([id for id, _ in sizes])
    categories = category_ids(classes) if images else tuple(range(1, len(classes) + 1))
    numbers = images or list(range(1, len(sizes) + 1))
    results = [
        {"image_id": numbers[place], "category_id": categories[value - 1], "segmentation": segmentation, "score": 1.0}
        for place, value, segmentation in regions
    ]
    dataset = {
        "images": [
            {"id": number, "file_name": id, "height": shape[0], "width": shape[1]}
            for number, (id, shape) in zip(numbers, sizes, strict=True)
        ],
        "categories": [{"id": number, "name": name} for number, name in zip(categories, classes, strict=True)],
        "annotations": [],
    }
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")


def coco_image_ids(ids: Sequence[str]) -> list[int]:
    """The numbers in the names of COCO's files; empty if one of `ids` is no such name or a number occurs twice."""
    named = [COCO_FILE.fullmatch(id) for id in ids]
    numbers = [int(name[1]) for name in named if name]
    return numbers if len(set(numbers)) == len(ids) else []


def coco_regions(label: np.ndarray) -> list[tuple[int, Segmentation]]:
    """The regions of one label map uint8 [H,W], by ascending label: each label and its compressed run lengths."""
    return [(int(value), _region(label == value)) for value in np.unique(label) if value not in (0, VOID)]


def _region(region: np.ndarray) -> Segmentation:
    runs = coco.encode(np.asfortranarray(region, np.uint8))
    return {"size": runs["size"], "counts": runs["counts"].decode()}
