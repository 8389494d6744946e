"""Saliency maps of the images of a set: where something stands out, whatever its class. They come from another program, as files.

A folder has one 8-bit greyscale image of any size for each image, named after the image's id: 255 is salient. Networks that make
such maps learnt from masks without classes, so what reads them is no longer made of image-level labels alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from imagesets.errors import WrongInput
from imagesets.file_per_image import folder_problems
from imagesets.files import by_id
from imagesets.item import Item
from imagesets.lists import IMAGE_SUFFIXES

SUFFIXES = (*IMAGE_SUFFIXES, ".bmp", ".tif", ".tiff")


def saliency_files(folder: str) -> Mapping[str, str]:
    """The file of each image id in a folder."""
    return by_id(Path(folder), SUFFIXES).paths


def read_saliency(path: str | Path) -> np.ndarray:
    """A saliency map uint8 [H,W], in 0..255. Raises WrongInput if the image is not greyscale of 8 bits."""
    with Image.open(path) as file:
        if file.mode != "L":
            raise WrongInput(f"{path} is an image of mode {file.mode}; a saliency map must be greyscale of 8 bits (mode L)")
        return np.asarray(file)


def saliency_problems(folder: str, items: Sequence[Item]) -> list[str]:
    """What is wrong with the maps of `items`: missing ids, two files of one id, files that cannot be decoded, colour images."""

    def look(path: Path, item: Item) -> list[str]:
        read_saliency(path)
        return []

    return folder_problems(Path(folder), items, SUFFIXES, look)
