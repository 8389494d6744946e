"""Saliency maps of the images of a set: where something stands out, whatever its class.

They come as files of another program, one 8-bit greyscale image of any size for each image, named after the image's id: 255 is
salient. Networks that make such maps learnt from masks without classes, so what reads them is no longer made of image-level
labels alone. The word `contrast` stands for maps that are made here, of the image alone (`imagesets.border_contrast`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from imagesets.border_contrast import border_contrast
from imagesets.errors import WrongInput
from imagesets.file_per_image import folder_problems
from imagesets.files import by_id
from imagesets.item import Item
from imagesets.lists import IMAGE_SUFFIXES

CONTRAST = "contrast"


@dataclass(frozen=True)
class SaliencyMaps:
    """Gives the saliency map of an image: from its file, or without `files` from its colours."""

    files: Mapping[str, str] | None  # by image id

    @classmethod
    def of(cls, source: str) -> "SaliencyMaps":
        """Those of a folder, or those of the word `contrast`."""
        return cls(None if source == CONTRAST else by_id(Path(source), IMAGE_SUFFIXES).paths)

    def __call__(self, item: Item, rgb: np.ndarray) -> np.ndarray:
        """The map uint8 [h,w] of any size, of an image and its pixels uint8 [H,W,3]."""
        return border_contrast(rgb) if self.files is None else read_saliency(self.files[item.id])


def read_saliency(path: str | Path) -> np.ndarray:
    """A saliency map uint8 [h,w]. Raises WrongInput if the image is not greyscale of 8 bits."""
    with Image.open(path) as file:
        if file.mode != "L":
            raise WrongInput(f"{path} is an image of mode {file.mode}; a saliency map must be greyscale of 8 bits (mode L)")
        return np.asarray(file)


def saliency_problems(source: str, items: Sequence[Item]) -> list[str]:
    """What is wrong with the maps of `items`: missing ids, two files of one id, damaged files, colours, no value above 1."""
    if source == CONTRAST:
        return []
    highest = list[int]()  # of each map

    def look(path: Path, item: Item) -> list[str]:
        highest.append(int(read_saliency(path).max()))
        return []

    problems = folder_problems(Path(source), items, IMAGE_SUFFIXES, look)
    if highest and max(highest) <= 1:
        problems.append(
            f"no map in {source} has a value above {max(highest)}; 255 is salient, so maps of 0 and 1 must be multiplied by 255"
        )
    return problems
