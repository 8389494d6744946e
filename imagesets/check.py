"""Everything that is wrong with an image set, found in one go and said in one sentence each."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from imagesets.errors import WrongInput
from imagesets.image_set import IMAGES, ImageSet
from imagesets.item import VOID, read_label_map
from imagesets.side_by_side import side_by_side

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def check(
    image_set: ImageSet,
    lists: Sequence[str],
    masks_of: Iterable[str] = (),
    held_out: str = "val",
    decode: bool = True,
    threads: int = 4,
) -> list[str]:
    """Problems of the named lists, one sentence each with its path; empty if there is none. Bad data never raises.

    Masks are read for the lists `masks_of`. No other list may share images with `held_out`. `decode` decodes every image
    in full, which alone finds truncated files; without it only their headers are read. `threads` work side by side.
    """
    ids, problems = _read_lists(image_set, lists)
    for name, members in ids.items():
        problems += _list_problems(image_set, name, members)
        if name != held_out and (shared := sorted(set(members) & set(ids.get(held_out, ())))):
            where = f"{image_set.list_path(name)} and {image_set.list_path(held_out)}"
            problems.append(f"{where} share {len(shared)} images (first: {shared[0]}); a held-out list must share none")
    with_masks = {id for name in masks_of for id in ids.get(name, ())}
    images, masks = image_set.image_paths(), image_set.mask_paths()

    def of_one(id: str) -> list[str]:
        image = Path(images.get(id, image_set.root / IMAGES / f"{id}.jpg"))
        found = attempt(id, lambda: _label_problems(image_set, id)) + attempt(image, lambda: image_problems(image, decode))
        if id in with_masks:
            mask = Path(masks.get(id, image_set.root / image_set.mask_folders[0] / f"{id}.png"))
            found += attempt(mask, lambda: mask_problems(mask, image, len(image_set.classes)))
        return found

    found = side_by_side(of_one, dict.fromkeys(id for members in ids.values() for id in members), threads)
    return problems + [problem for of_image in found for problem in of_image]


def file_problems(images: Sequence[Path], threads: int = 4) -> list[str]:
    """What is wrong with image files that belong to no image set, each decoded in full; bad data never raises."""
    found = side_by_side(lambda path: attempt(path, lambda: image_problems(path, decode=True)), images, threads)
    return [problem for of_image in found for problem in of_image]


def image_problems(path: Path, decode: bool) -> list[str]:
    """What is wrong with one image file that can be opened: EXIF rotation, more than eight bits; decoding errors raise."""
    with Image.open(path) as file:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
        mode = file.mode
        if decode:
            file.load()
    problems = []
    if orientation not in (0, 1):
        problems.append(
            f"{path} is rotated by EXIF orientation {orientation}, which readers disagree on; store its pixels upright"
        )
    if mode not in EIGHT_BIT_MODES:
        problems.append(f"{path} has the mode {mode}; an image must have 8 bits per channel")
    return problems


def mask_problems(path: Path, image: Path, classes: int) -> list[str]:
    """What is wrong with one mask: size, values, nothing but void; a colour image or a decoding error raises."""
    label = read_label_map(path)
    problems = label_problems(path, label, image, classes)
    if (label == VOID).all():
        problems.append(f"{path} is void everywhere; a mask must have at least one labelled pixel")
    return problems


def label_problems(path: Path, label: np.ndarray, image: Path, classes: int) -> list[str]:
    """What is wrong with the size and the values of the label map [H,W] that was read from `path`."""
    values = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    problems = []
    if outside := [int(value) for value in values if classes < value < VOID]:
        problems.append(f"{path} holds the labels {outside}; {classes} classes allow 0 to {classes} and {VOID} for void")
    height, width = label.shape
    size = size_of(image)
    if size and size != (width, height):
        problems.append(f"{path} is {width}x{height} but its image {image} is {size[0]}x{size[1]}; sizes must be equal")
    return problems


def size_of(image: Path) -> tuple[int, int] | None:
    """Width and height, or None of a file that cannot be opened, which is a problem of the image and not of its mask."""
    try:
        with Image.open(image) as file:
            return file.size
    except Exception:
        return None


def _read_lists(image_set: ImageSet, lists: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    ids: dict[str, tuple[str, ...]] = {}
    problems = []
    for name in dict.fromkeys(lists):
        try:
            ids[name] = image_set.ids(name)
        except (WrongInput, OSError) as error:
            problems.append(str(error))
    return ids, problems


def _list_problems(image_set: ImageSet, name: str, ids: Sequence[str]) -> list[str]:
    path = image_set.list_path(name)
    if not ids:
        return [f"{path} is empty; a list must name at least one image"]
    return [f"{path} names the image {id} {count} times; once is right" for id, count in Counter(ids).items() if count > 1]


def _label_problems(image_set: ImageSet, id: str) -> list[str]:
    if image_set.labels(id):
        return []
    return [
        f"image {id} of {image_set.root} has no image-level label (labels from {image_set.label_source}); it must show a class"
    ]


def attempt(what: object, look: Callable[[], list[str]]) -> list[str]:
    """The problems that `look` finds in `what`; whatever it raises is one more."""
    try:
        return look()
    except WrongInput as error:
        return [str(error)]
    except FileNotFoundError:
        return [f"{what} is missing"]
    except Exception as error:  # broken files make decoders raise nearly anything; each is one more problem to report
        return [f"{what} cannot be read: {error}"]
