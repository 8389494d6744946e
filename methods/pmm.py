"""PMM: a second SEAM learns from windows of the images at many scales, and maps come from all windows together.

Li et al., Pseudo-mask Matters in Weakly-supervised Semantic Segmentation, ICCV 2021. The multi-scale stage is SEAM. Its maps and
a dense CRF say which classes a window shows. The multi-crop stage is SEAM's network again, trained on a random window of each
image. The maps of all windows and of their mirror images are averaged where they overlap. The refiner `ppmg` makes pseudo masks
of the maps. We follow the public code (Eli-YiLi/PMM):
* a window other than the last ends where the next one begins, not at its full size;
* for training a scale is drawn, then one of its windows, anew until it shows a class (at most as often as there are windows);
* a window shows a class if it has more than a tenth of the area where the CRF is sure of the class, or if that area is more than
  a tenth of the window;
* maps are stretched from minimum to maximum, without a rectifier.
The code's multi-scale stage starts from weights of a trained SEAM, and its multi-crop stage has a ScaleNet-101. HFPL prints
ResNet-38, and so both stages have it here, from ImageNet weights; ScaleNet-101 and Res2Net-101 are left out. On COCO the code
has no multi-scale stage and trains on random crops, as SEAM does; here every window has the labels of its image (`crop_labels` =
image).
HFPL has ISL in the multi-scale stage alone and FSL in both, and so has the recipe.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
import torch
from PIL import Image

from imagesets.colour import recoloured
from imagesets.crops import Box
from imagesets.item import Item
from imagesets.normalising import normalised
from imagesets.views import Loaded, mirror_sum
from maps.extraction import own_maps
from maps.grids import resize
from maps.normalising import EPSILON, with_own_background
from methods import seam
from refiners import crf
from training.stage import Context, PerImage, Record, Records, Settings, Training

SURE = 0.9  # a class is there where the CRF gives it more than this
SHARE = 0.1  # of a class's area or of a window
AT_ONCE = 4  # windows of an image that the network gets together


@dataclass(frozen=True)
class Windows:
    """Where the windows of an image lie: squares of `side` pixels at every scale, `stride` pixels apart."""

    scales: Sequence[float]
    side: int
    stride: int

    @classmethod
    def of(cls, settings: Settings) -> "Windows":
        """Those that the settings say."""
        return cls(settings.window_scales, settings.window, settings.window_stride)

    def boxes(self, size: tuple[int, int]) -> list[Box]:
        """The windows of an image of `size` (height, width), by scale, then column by column."""
        return [box for scale in self.scales for box in self.at(scale, size)]

    def at(self, scale: float, size: tuple[int, int]) -> list[Box]:
        """The windows at one scale of an image of `size` (height, width), column by column."""
        rows, columns = (list(self._spans(max(1, int(side * scale)))) for side in size)
        boxes = ((top, left, bottom, right) for (left, right), (top, bottom) in product(columns, rows))
        return [_within(size, *(int(corner / scale) for corner in box)) for box in boxes]

    def _spans(self, extent: int) -> Iterator[tuple[int, int]]:
        """The beginnings and ends of windows along one side of a scaled image."""
        last = ceil(max(0, extent - self.side) / self.stride)
        for place in range(last):
            yield self.stride * place, min(extent, self.stride * (place + 1))
        yield max(0, extent - self.side), extent


def _within(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> Box:
    """The box, at least one pixel large and within an image of `size` (tiny images, scales below 1)."""
    top, left = min(top, size[0] - 1), min(left, size[1] - 1)
    return top, left, min(max(bottom, top + 1), size[0]), min(max(right, left + 1), size[1])


def shown(sure: np.ndarray, box: Box) -> np.ndarray:
    """Which classes a window shows, bool [n], from where the CRF is sure of each, bool [n,H,W]."""
    top, left, bottom, right = box
    inside = sure[:, top:bottom, left:right].sum(axis=(1, 2))
    total = sure.sum(axis=(1, 2))
    area = (right - left) * (bottom - top)
    return (total > 0) & ((inside > SHARE * total) | (inside > SHARE * area))


def merged(size: tuple[int, int], boxes: Sequence[Box], maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean [n,H,W] of the maps [n,h,w] of windows where they overlap, stretched for each class; 0 where no window is."""
    total = torch.zeros(maps[0].shape[0], *size, device=maps[0].device)
    count = torch.zeros(size, device=total.device)
    for (top, left, bottom, right), own in zip(boxes, maps, strict=True):
        total[:, top:bottom, left:right] += own
        count[top:bottom, left:right] += 1
    mean = total / count.clamp(min=1)
    low, high = mean.amin(dim=(1, 2), keepdim=True), mean.amax(dim=(1, 2), keepdim=True)
    return (torch.where(mean < low + EPSILON, 0, mean) - low) / (high - low + EPSILON)


def heat(context: Context) -> Callable[[Item], Record]:
    """Stage: where the CRF is sure of each class of an image, as the bits of bool [n,H,W].

    The score of background is (1 - largest map)^`heat_alpha`.
    """
    settings, parameters = context.settings, crf.Parameters(**context.settings.heat_crf)

    def one(item: Item) -> Record:
        maps = context.inputs["maps"][item.id]
        if len(maps.keys) == 0:
            return {"sure": np.zeros(0, np.uint8)}
        scores = with_own_background(maps.full(), settings.heat_alpha).numpy()
        return {"sure": np.packbits(crf.soft(item.rgb(), scores, parameters)[1:] > SURE)}

    return one


def network(settings: Settings, classes: tuple[str, ...]) -> seam.SEAM:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return seam.network(settings, classes)


def training(context: Context) -> Training:
    """Train on windows, whose labels come from the word `heat` or from their images."""
    settings = context.settings
    heat = context.inputs["heat"] if settings.crop_labels == "heat" else None
    sample = LabelledWindow(Windows.of(settings), settings.crop, settings.colour, len(context.classes), heat)
    return seam.learning(context, sample)


@dataclass(frozen=True)
class LabelledWindow:
    """Makes one training example of a random window: image RGBA uint8 [4,crop,crop] and multi-hot labels float32 [K]."""

    windows: Windows
    crop: int
    colour: str
    classes: int
    heat: Records | None

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rgb = item.rgb()
        box, labels = self._drawn(item, rgb.shape[:2], rng)
        seen = cut(rgb, box, self.crop)
        seen = seen[:, ::-1] if rng.random() < 0.5 else seen
        seen = recoloured(seen, self.colour, rng)
        opaque = np.full((1, self.crop, self.crop), 255, np.uint8)
        image = np.concatenate([seen.transpose(2, 0, 1), opaque])
        return {"image": torch.from_numpy(image), "labels": torch.from_numpy(labels)}

    def _drawn(self, item: Item, size: tuple[int, int], rng: np.random.Generator) -> tuple[Box, np.ndarray]:
        """The first drawn window of an image of `size` that shows a class, else the last one drawn, and its labels."""
        boxes, labels = self.windows.at(float(rng.choice(self.windows.scales)), size), item.multi_hot(self.classes)
        sure = self._sure(item, size)
        for _ in boxes:
            box = boxes[int(rng.integers(len(boxes)))]
            if sure is not None:
                labels[list(item.labels)] = shown(sure, box)
            if labels.any():
                break
        return box, labels

    def _sure(self, item: Item, size: tuple[int, int]) -> np.ndarray | None:
        """Where the CRF is sure of each class of an image, bool [n,H,W]; None where its own labels count."""
        if self.heat is None:
            return None
        shape = len(item.labels), *size
        return np.unpackbits(self.heat[item.id]["sure"], count=int(np.prod(shape))).reshape(shape) != 0


def cut(rgb: np.ndarray, box: Box, side: int) -> np.ndarray:
    """The window `box` of an image uint8 [H,W,3], resized bilinearly to [side,side,3]."""
    top, left, bottom, right = box
    window = Image.fromarray(np.ascontiguousarray(rgb[top:bottom, left:right]))
    return np.asarray(window.resize((side, side), Image.Resampling.BILINEAR))


def maps(context: Context) -> PerImage:
    """The maps of one image's own classes from all its windows and their mirror images, at full size."""
    settings, network, device = context.settings, context.inputs["network"], context.device
    windows = Windows.of(settings)

    def load(item: Item) -> Loaded:
        rgb = item.rgb()
        boxes = windows.boxes(rgb.shape[:2]) if item.labels else []
        views = tuple(torch.from_numpy(np.array(cut(rgb, box, settings.crop))) for box in boxes)
        return Loaded(item, rgb, views, torch.tensor(item.labels, dtype=torch.int64))

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        return [[_merged_maps(network, loaded, windows, device)] if loaded.views else [] for loaded in batch]

    return PerImage(load, compute, own_maps)


def _merged_maps(network: seam.SEAM, loaded: Loaded, windows: Windows, device: torch.device) -> torch.Tensor:
    size, side = loaded.rgb.shape[:2], loaded.views[0].shape[:2]
    boxes, keys = windows.boxes(size), loaded.labels[None].to(device)
    found: list[torch.Tensor] = []
    for start in range(0, len(boxes), AT_ONCE):
        images = normalised(torch.stack(loaded.views[start : start + AT_ONCE]).to(device))
        both = torch.cat([images, images.flip(-1)])
        refined = network.maps(both, keys.expand(len(both), -1))[1][:, 1:].unflatten(0, (2, -1))
        found += seam.resized(mirror_sum(refined) / 2, side)
    sizes = [(bottom - top, right - left) for top, left, bottom, right in boxes]
    # the smallest values are 0 but for rounding
    return merged(size, boxes, [resize(own, extent) for own, extent in zip(found, sizes, strict=True)]).clamp(min=0)
