"""Training examples of image-level labels: a random crop of an image, in random colours, and the labels of the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from imagesets.colour import recoloured
from imagesets.crops import Crop, by_long_side
from imagesets.item import Item
from imagesets.transforms import rescale


@dataclass(frozen=True)
class LabelledCrop:
    """Makes one training example: image RGBA uint8 [4,crop,crop], multi-hot labels float32 [K], and what a subclass adds.

    The image's long side is drawn within `long_side`; `colour` is a rule of `imagesets.colour.RULES`.
    """

    long_side: Sequence[int]
    crop: int
    classes: int
    colour: str = "none"

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rgb = item.rgb()
        crop = Crop.drawn(by_long_side(rgb.shape[:2], self.long_side, rng), self.crop, rng)
        image = crop.image(recoloured(rescale(rgb, crop.size), self.colour, rng))
        arrays = {"image": image, "labels": item.multi_hot(self.classes), **self.further(item, rgb, crop)}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def further(self, item: Item, rgb: np.ndarray, crop: Crop) -> dict[str, np.ndarray]:
        """What else a network learns from, cropped as the image was."""
        return {}
