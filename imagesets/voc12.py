"""PASCAL VOC 2012 (Everingham et al., IJCV 2015): the folder VOCdevkit/VOC2012, or its parent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagesets.image_set import ImageSet
from imagesets.layout import find_root, open_layout

FOLDER = "VOC2012"
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def open_voc12(path: str | Path, settings: Mapping[str, Any]) -> ImageSet:
    """Open VOC 2012 at `path` (see `imagesets.layout.open_layout` for `settings`)."""
    return open_layout(find_root(path, FOLDER), settings, CLASSES)
