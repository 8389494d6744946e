"""Images of more than 8 bits per channel (16-bit PNG and TIFF, floating-point TIFF), made 8-bit by a stated rule.

Nothing in such a file says which of its values are black and white: a camera of 12 bits fills a sixteenth of what 16 bits can
hold. `images.range` says it, for all images of a set. Images of 8 bits are read as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesets.errors import WrongInput
from imagesets.item import Item

if TYPE_CHECKING:  # not imported here: planning opens no image and must answer at once
    import numpy as np
    from PIL import Image

Range = tuple[float, float]  # the values that become 0 (black) and 255 (white)
NO_RULE: Range = (0.0, 0.0)  # images of more than 8 bits are refused
DEEP_MODES = "IF"  # first letters of Pillow's modes: whole numbers of 16 or 32 bits, and floating-point numbers
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
BITS_PER_SAMPLE = 258  # a tag of TIFF
PNG_BITS = 24  # the byte of a PNG file that holds the bits per channel


@dataclass(frozen=True)
class DeepItem(Item):
    """An image of a set with a rule for images of more than 8 bits."""

    range: Range = NO_RULE

    def rgb(self) -> np.ndarray:
        """The image as uint8 [H,W,3], RGB."""
        return read_rgb(self.image, self.range)


def is_deep(path: Path, file: Image.Image) -> bool:
    """Whether an opened image has more than 8 bits per channel. Pillow opens some of these as RGB and drops the lower bits."""
    if file.mode[0] in DEEP_MODES:
        return True
    if file.format == "TIFF":
        return max(file.tag_v2.get(BITS_PER_SAMPLE, (1,))) > 8  # type: ignore[attr-defined]  # of TIFFs
    if file.format == "PNG":
        with path.open("rb") as content:
            return content.read(PNG_BITS + 1)[PNG_BITS] > 8
    return False


def read_rgb(path: Path, range: Range) -> np.ndarray:
    """An image of any depth as uint8 [H,W,3]: `range[0]` and less is 0, `range[1]` and more 255, linear between them.

    One channel is shown as grey; a fourth one (opacity) does not count. Raises WrongInput for other numbers of channels.
    """
    import numpy as np
    from PIL import Image

    with Image.open(path) as file:
        if not is_deep(path, file):
            return np.asarray(file.convert("RGB"))
    values = read_values(path).astype(np.float32)
    low, high = range
    eight = np.rint(np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.repeat(eight, 3, axis=2) if eight.shape[2] == 1 else eight[..., :3]


def read_values(path: Path) -> np.ndarray:
    """The values of an image as they are in the file, [H,W,1], or [H,W,3] and [H,W,4] with red first."""
    import cv2  # Pillow cannot keep more than 8 bits of a colour image

    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise WrongInput(f"{path} cannot be read: it is damaged or of an unknown kind")
    if values.ndim == 2:
        return values[..., None]
    if values.shape[2] not in (3, 4):
        raise WrongInput(f"{path} has {values.shape[2]} channels; an image must have 1, 3, or 4 with opacity")
    return values[..., [2, 1, 0, 3][: values.shape[2]]]  # OpenCV has blue first
