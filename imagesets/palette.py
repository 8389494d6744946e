"""Label maps as palette PNGs and as colours: the palette of PASCAL VOC."""

from pathlib import Path

import numpy as np
from PIL import Image

from imagesets.files import replacing


def voc_palette() -> np.ndarray:
    """uint8 [256,3]: bit 3k+c of a label value is bit 7-k of channel c, so 1 is (128,0,0) and 255 (224,224,192)."""
    values, channels = np.arange(256)[:, None], np.arange(3)
    return np.sum([((values >> (3 * k + channels)) & 1) << (7 - k) for k in range(3)], axis=0).astype(np.uint8)


PALETTE = voc_palette()


def colourise(label: np.ndarray) -> np.ndarray:
    """Colours of a label map: uint8 [H,W] -> RGB uint8 [H,W,3]."""
    return PALETTE[label]


def palette_image(label: np.ndarray) -> Image.Image:
    """A uint8 [H,W] label map as a palette picture: its pixels are the labels."""
    image = Image.fromarray(label)
    image.putpalette(PALETTE.tobytes())
    return image


def save_label_map(path: Path, label: np.ndarray) -> None:
    """Write a uint8 [H,W] label map as a palette PNG, atomically: `path` never holds half a file."""
    with replacing(path) as partial:
        palette_image(label).save(partial, format="PNG")
