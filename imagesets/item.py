"""One image of an image set: its path, its image-level labels and, for some stages, its mask."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesets.errors import WrongInput

if TYPE_CHECKING:  # not imported here: planning opens no image and must answer at once
    import numpy as np

warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # Pillow's; `file_check` says what is too large
VOID = 255  # the label of pixels that no score and no loss counts


@dataclass(frozen=True)
class Item:
    """One image as a stage sees it.

    `labels` are 0-based foreground class indices, ascending; label value = index + 1, 0 is background. `mask` is None
    in every stage that must not see masks; only evaluation and the supervised reference see them.
    """

    id: str
    image: Path
    labels: tuple[int, ...]
    mask: Path | None = None

    def rgb(self) -> np.ndarray:
        """The image as uint8 [H,W,3], RGB, in the file's own orientation (masks are drawn on the unrotated file)."""
        import numpy as np
        from PIL import Image

        with Image.open(self.image) as file:
            return np.asarray(file.convert("RGB"))

    def truth(self) -> np.ndarray:
        """The mask as uint8 [H,W]: 0 background, class index + 1, 255 void."""
        if self.mask is None:
            raise WrongInput(f"image {self.id} has no mask in this list")
        return read_label_map(self.mask)

    def multi_hot(self, classes: int) -> np.ndarray:
        """The image-level labels as float32 [classes]."""
        import numpy as np

        vector = np.zeros(classes, np.float32)
        vector[list(self.labels)] = 1
        return vector


def read_label_map(path: Path) -> np.ndarray:
    """Read an index image (palette or greyscale PNG) as uint8 [H,W]; colour images and other formats are refused."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as file:
        if file.format != "PNG":
            raise WrongInput(f"{path} is a {file.format} file, whatever its name says; a mask must be a PNG of label indices")
        if file.mode not in ("P", "L"):
            raise WrongInput(f"{path} is a {file.mode} image; a mask must be a palette or greyscale PNG of label indices")
        return np.asarray(file)
