"""Label maps from COCO's instances. Published code has several rules for that, whose maps differ, so a rule has a name.

* recam (ReCAM and LPCAM code): pycocotools draws the objects, later ones over earlier ones. Crowds are not drawn, but they count
  as image-level labels.
* hfpl (HFPL code): OpenCV fills each polygon between its vertices without their fractions, the edge included. Crowds are
  drawn. The image-level labels are the classes that the mask shows.

There is no void in either: what no instance covers is background.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import msgspec
import numpy as np
from pycocotools import mask as coco

from imagesets.errors import WrongInput

FAR = 100_000  # pixels; a vertex farther out than this is damage, for which pycocotools would ask gigabytes


class RunLengths(msgspec.Struct):
    """A region by the lengths of its runs down the columns; a text holds them compressed."""

    size: tuple[int, int]
    counts: list[int] | str


Polygons = list[list[float]]
SEGMENTATION = msgspec.json.Decoder(Polygons | RunLengths | None)


@dataclass(frozen=True)
class Rule:
    """`fill(label, polygons, value)` draws an object into the label map [H,W]."""

    fill: Callable[[np.ndarray, Polygons, int], None]
    order: Literal["C", "F"]  # in which `fill` wants the label map in memory: rows or columns first
    crowds: bool  # whether they are drawn
    labels_from_mask: bool


class Instance(msgspec.Struct):
    """One annotation of an image: its label value, its segmentation in JSON, and its id for messages."""

    value: int
    crowd: bool
    segmentation: bytes
    id: int | str | None = None


def label_map(rule: str, height: int, width: int, instances: Iterable[Instance]) -> np.ndarray:
    """The mask uint8 [H,W] of an image, by the rule of that name; raises WrongInput for an instance without a sound region."""
    drawn = RULES[rule]
    label = np.zeros((height, width), np.uint8, drawn.order)
    for instance in instances:
        if instance.crowd and not drawn.crowds:
            continue
        try:
            _draw(drawn, label, instance)
        except (ValueError, OverflowError, msgspec.DecodeError) as error:
            raise WrongInput(f"the annotation {instance.id} has no sound segmentation: {error}") from None
    return np.ascontiguousarray(label)


def _draw(rule: Rule, label: np.ndarray, instance: Instance) -> None:
    segmentation = SEGMENTATION.decode(instance.segmentation)
    if not segmentation:
        raise ValueError("it is empty")
    if isinstance(segmentation, RunLengths):
        _cover(label, _decoded(segmentation, label.shape), instance.value)
        return
    for polygon in segmentation:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon has {len(polygon)} numbers; it must have two for each of at least 3 points")
        if not max(map(abs, polygon)) <= FAR:
            raise ValueError(f"a polygon has a point more than {FAR} pixels away")
    rule.fill(label, segmentation, instance.value)


def _cover(label: np.ndarray, region: np.ndarray, value: int) -> None:
    np.copyto(label, value, where=region.view(bool))


def _decoded(region: RunLengths, shape: Sequence[int]) -> np.ndarray:
    """The region uint8 [H,W]; its runs must cover the image, because pycocotools leaves the rest undefined."""
    lengths = region.counts if isinstance(region.counts, list) else decompressed(region.counts)
    if region.size != tuple(shape) or sum(lengths) != shape[0] * shape[1]:
        told = f"its runs cover {sum(lengths)} pixels of {region.size[1]}x{region.size[0]}"
        raise ValueError(f"{told}; the image is {shape[1]}x{shape[0]}")
    return coco.decode(coco.frPyObjects({"size": list(region.size), "counts": lengths}, *shape))


def decompressed(counts: str) -> list[int]:
    """The run lengths in COCO's compressed form.

    A number has groups of five bits, the lowest first; a sixth bit says that more follow, and the highest bit of the last is the
    sign. A group is the character of its value plus 48. From the fourth run on it is the difference to the run two before.
    """
    lengths, number, bits = list[int](), 0, 0
    for character in counts:
        group = ord(character) - 48
        number |= (group & 31) << bits
        bits += 5
        if not group & 32:
            number -= (1 << bits) if group & 16 else 0
            lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
            number, bits = 0, 0
    return lengths


def _by_pycocotools(label: np.ndarray, polygons: Polygons, value: int) -> None:
    _cover(label, coco.decode(coco.merge(coco.frPyObjects(polygons, *label.shape))), value)


def _by_opencv(label: np.ndarray, polygons: Polygons, value: int) -> None:
    for polygon in polygons:  # one by one: together, where two overlap would count as outside
        cv2.fillPoly(label, [np.array(polygon).astype(np.int32).reshape(-1, 2)], value)


RULES = {
    "recam": Rule(_by_pycocotools, "F", crowds=False, labels_from_mask=False),
    "hfpl": Rule(_by_opencv, "C", crowds=True, labels_from_mask=True),
}
