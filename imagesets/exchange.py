"""Label maps in the forms that other tools read: a folder of PNGs, the archive of VOC's evaluation server, COCO's results."""

import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from imagesets.coco_rle import encode
from imagesets.item import VOID
from imagesets.palette import palette_image, save_label_map

LabelMaps = Iterable[tuple[str, np.ndarray]]  # image id and its label map uint8 [H,W]
COCO_FILE = re.compile(r"(?:COCO_\w+_)?(\d{12})")  # how COCO names the file of the image with this number


def write_folder(folder: Path, name: str, maps: LabelMaps) -> None:
    """`folder`/<id>.png, palette PNGs, and the list of their ids as `folder`/`name`.txt."""
    ids = []
    for id, label in maps:
        save_label_map(folder / f"{id}.png", label)
        ids.append(id)
    (folder / f"{name}.txt").write_text("".join(f"{id}\n" for id in ids), encoding="utf-8")


def write_server_archive(path: Path, maps: LabelMaps, competition: str) -> None:
    """An archive as the VOC 2012 evaluation server takes it; equal maps give equal bytes.

    `competition` is comp5 (trained on VOC's data alone) or comp6 (on other data as well, such as ImageNet weights).
    """
    inside = f"results/VOC2012/Segmentation/{competition}_test_cls"
    # no names and no times in it: the same maps are the same archive
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


def write_coco_results(path: Path, maps: LabelMaps) -> None:
    """A JSON list with one region per image and class; background and void are none.

    `category_id` is the label value, that is the place of the class among the foreground classes, from 1. `image_id` is the
    number in a file name of COCO's and otherwise the image id as it is.
    """
    regions = [region for id, label in maps for region in coco_regions(id, label)]
    path.write_text(json.dumps(regions), encoding="utf-8")


def coco_regions(id: str, label: np.ndarray) -> list[dict[str, object]]:
    """The regions of one label map uint8 [H,W], by ascending label."""
    numbered = COCO_FILE.fullmatch(id)
    image, (height, width) = int(numbered[1]) if numbered else id, label.shape
    return [
        {
            "image_id": image,
            "category_id": int(value),
            "segmentation": {"size": [height, width], "counts": encode(label == value)},
        }
        for value in np.unique(label)
        if value not in (0, VOID)
    ]
