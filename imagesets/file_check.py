"""What is wrong with one image or mask file; `attempt` turns every error into a problem."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from imagesets.deep_image import EIGHT_BIT_MODES, NO_RULE, Range, is_deep, read_values
from imagesets.errors import WrongInput
from imagesets.findings import grouped
from imagesets.item import VOID
from imagesets.side_by_side import side_by_side

PAGED = ("TIFF", "WEBP")  # kinds of files that may hold several images; a JPEG's further ones are previews
UPRIGHT = (0, 1)  # EXIF orientations of pixels that are stored as they are seen
Image.MAX_IMAGE_PIXELS = None  # these limits in place of Pillow's
MOST = 2**30  # pixels: OpenCV reads no more
MOST_OF_SET = 2 * 89_478_485  # pixels: Pillow opens no more, in the processes of a run
THREADS = 4  # files read at a time; decoding runs without the interpreter lock
SMALLEST = 2  # pixels a side: at 0.5, the smallest published scale, one pixel must be left


def file_problems(images: Sequence[Path], range: Range = NO_RULE) -> list[str]:
    """What is wrong with image files that belong to no image set, each decoded in full; bad data never raises an error."""
    found = side_by_side(lambda path: attempt(path, lambda: image_problems(path, True, range, of_set=False)), images, THREADS)
    return grouped((path.stem, problem) for path, of_image in zip(images, found, strict=True) for problem in of_image)


def image_problems(path: Path, decode: bool, range: Range = NO_RULE, of_set: bool = True) -> list[str]:
    """What is wrong with one readable image file: its size, EXIF rotation, number of images, and bits without a rule (`range`).

    A rule can be set for an image set alone (`of_set`). Decoding errors are raised.
    """
    with Image.open(path) as file:
        width, height = file.size
        if width * height > (most := MOST_OF_SET if of_set else MOST):
            what = "an image of an image set" if of_set else "an image"
            return [f"{path} is {width}x{height}; {what} has at most {most / 1e6:.0f} million pixels, so cut it up"]
        orientation = orientation_of(file)
        count = getattr(file, "n_frames", 1) if file.format in PAGED else 1
        deep, mode = is_deep(path, file), file.mode
        if decode:
            file.load()
    problems = []
    if min(width, height) < SMALLEST:
        problems.append(f"{path} is {width}x{height}; an image must have at least {SMALLEST} pixels a side")
    if orientation not in UPRIGHT:
        problems.append(
            f"{path} is rotated by EXIF orientation {orientation}, which readers disagree on; store its pixels upright"
        )
    if count > 1:
        problems.append(f"{path} holds {count} images; it must hold one")
    if not deep and mode not in EIGHT_BIT_MODES:
        problems.append(f"{path} has the colours {mode}; an image must be RGB, CMYK, YCbCr, grey or of a palette")
    return problems + (_deep_problems(path, decode, range, of_set) if deep else [])


def orientation_of(file: Image.Image) -> int:
    """The EXIF orientation of an opened image; damaged EXIF data, which no reader minds, say none."""
    try:
        return file.getexif().get(ExifTags.Base.Orientation, 1)  # type: ignore[no-any-return]
    except SyntaxError:  # as Pillow calls data without their header
        return 1


def _deep_problems(path: Path, decode: bool, range: Range, of_set: bool) -> list[str]:
    """What is wrong with an image of more than 8 bits per channel."""
    if not decode and range != NO_RULE:
        return []
    values = read_values(path)
    values = values[np.isfinite(values)]
    if not values.size:
        return [f"{path} is damaged: none of its values is a finite number"]
    low, high = values.min(), values.max()
    if range == NO_RULE:
        example = f", such as images.range={low:g},{high:g}" if low < high else ""
        rule = f"which values of the set are black and white? Say it by --set images.range=LOW,HIGH{example}"
        none = "the run has no rule for such images (images.range=0,0), so convert it to 8 bits"
        told = f"{path} has more than 8 bits per channel, with values from {low:g} to {high:g}"
        return [f"{told}; {rule if of_set else none}"]
    if high < range[0] or low > range[1]:
        return [f"{path} has values from {low:g} to {high:g}, of which images.range={range[0]:g},{range[1]:g} shows nothing"]
    return []


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
    """Width and height of an image; None if it cannot be opened, which is a problem of the image and not of its mask."""
    try:
        with Image.open(image) as file:
            return file.size
    except Exception:
        return None


def attempt(what: object, look: Callable[[], list[str]]) -> list[str]:
    """The problems that `look` finds in `what`; an error that it raises is one more problem."""
    try:
        return look()
    except WrongInput as error:
        return [str(error)]
    except FileNotFoundError:
        return [f"{what} is missing"]
    except Exception as error:  # broken files make decoders raise any error; each is a problem to report
        return [f"{what} cannot be read: {error}"]
