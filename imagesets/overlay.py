"""Label maps laid over their photographs, and the legend of their colours."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imagesets.errors import WrongInput
from imagesets.item import VOID
from imagesets.palette import PALETTE

LINE = 20  # pixels of a legend's line
OPACITY = 0.5


def overlay(rgb: np.ndarray, label: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """A label map uint8 [H,W] in its colours over the image uint8 [H,W,3]; background and void show the image alone.

    Raises WrongInput for a label map of another size, and for an opacity that is not in 0..1.
    """
    if label.shape != rgb.shape[:2]:
        raise WrongInput(f"the label map is {_size(label)} and its image {_size(rgb)}; sizes must be equal")
    if not 0 <= opacity <= 1:
        raise WrongInput(f"the opacity is {opacity}; it must be from 0, where the image shows alone, to 1")
    share = np.where((label == 0) | (label == VOID), 0.0, opacity)[..., None]
    return (rgb * (1 - share) + PALETTE[label] * share).round().astype(np.uint8)


def _size(picture: np.ndarray) -> str:
    return "x".join(map(str, picture.shape[1::-1]))


def legend(names: Sequence[str]) -> Image.Image:
    """The colour of each label value and its name, `names` from label 0 on."""
    font = ImageFont.load_default(13)
    width = max(int(font.getlength(name)) for name in names)
    picture = Image.new("RGB", (width + 2 * LINE, len(names) * LINE), "white")
    draw = ImageDraw.Draw(picture)
    for value, name in enumerate(names):
        top = value * LINE
        draw.rectangle((3, top + 3, LINE - 4, top + LINE - 4), tuple(PALETTE[value]), "black")
        draw.text((LINE + 2, top + 2), name, "black", font)
    return picture
