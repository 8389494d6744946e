"""Photographs, label maps and maps as pictures inside a page (data URIs)."""

import base64
import io
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from imagesets.palette import PALETTE

SIDE = 448  # pixels of the long side of a photograph and of its label maps, at most: 200 images with all layers are under 20 MB
HEAT_SIDE = 96  # of a map, which is smooth and was made on a coarser grid
LEVELS = 64  # of a map's values; more would be larger and look the same
COLOURS = (matplotlib.colormaps["inferno"](np.arange(256), bytes=True)).astype(np.uint8)  # RGBA [256,4], a colour per value


def photograph(rgb: np.ndarray) -> str:
    """A photograph uint8 [H,W,3]."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((SIDE, SIDE))
    return data_uri(picture, "webp", quality=72)


def label_picture(label: np.ndarray) -> str:
    """A label map uint8 [H,W] in the palette of PASCAL VOC, in which background is transparent."""
    picture = Image.fromarray(label)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
    picture.putpalette(PALETTE.tobytes())
    return data_uri(picture, "png", optimize=True, transparency=0)


def heat_picture(values: np.ndarray) -> str:
    """A map float [H,W] of values in 0..1 as a heat map; the lower a value, the more transparent."""
    picture = Image.fromarray(np.asarray(values, np.float32).clip(0, 1))
    picture.thumbnail((HEAT_SIDE, HEAT_SIDE), Image.Resampling.BILINEAR)
    levels = Image.fromarray(np.round(np.asarray(picture) * (LEVELS - 1)).astype(np.uint8))
    places = np.round(np.linspace(0, 255, LEVELS)).astype(int)
    levels.putpalette(COLOURS[places, :3].tobytes())
    opaque = np.minimum(2 * places, 255).astype(np.uint8)  # from the middle on
    return data_uri(levels, "png", optimize=True, transparency=opaque.tobytes())


def heat_scale() -> list[str]:
    """CSS colours of a heat map from 0 to 1."""
    return [f"rgb({','.join(map(str, COLOURS[round(place), :3]))})" for place in np.linspace(0, 255, 9)]


def data_uri(picture: Image.Image, kind: str, **options: Any) -> str:
    """A picture as the address of itself."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
