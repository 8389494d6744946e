"""A JSON file of COCO's instance annotations (Lin et al., Microsoft COCO, ECCV 2014), read once.

Segmentations, nine tenths of the file, stay raw bytes; `imagesets.coco_masks` reads those of one image at a time.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from imagesets.errors import WrongInput
from imagesets.files import composed

LONGEST = 65_535  # pixels of a side, as in a JPEG


class Picture(msgspec.Struct, gc=False):
    """An image as the file describes it; `height` and `width` in pixels."""

    id: int | str
    file_name: str
    height: int
    width: int

    @property
    def stem(self) -> str:
        """The file's name without its folder and its suffix."""
        return composed(PurePosixPath(self.file_name).stem)


class Annotation(msgspec.Struct, gc=False):
    """One object, or a crowd of objects of one category."""

    image_id: int | str
    category_id: int
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    iscrowd: bool | int = 0
    id: int | str | None = None


class Category(msgspec.Struct):
    """A class of objects."""

    id: int
    name: str


class Annotations(msgspec.Struct):
    """The contents of a file. Annotations of one image stay in the order of the file: later ones cover earlier ones."""

    images: list[Picture]
    annotations: list[Annotation]
    categories: list[Category]

    def by_image(self) -> Iterator[tuple[Picture, list[Annotation]]]:
        """Each image with its annotations, of which it may have none."""
        found: dict[int | str, list[Annotation]] = {picture.id: [] for picture in self.images}
        for annotation in self.annotations:
            found[annotation.image_id].append(annotation)
        return ((picture, found[picture.id]) for picture in self.images)


def read_annotations(path: Path) -> Annotations:
    """The annotations in `path`; raises WrongInput, one sentence, if the file is damaged or contradicts itself."""
    try:
        found = msgspec.json.decode(path.read_bytes().removeprefix(BOM_UTF8), type=Annotations)  # of Windows editors
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # a validation error is a DecodeError too
        raise WrongInput(f"{path} cannot be read as COCO's instance annotations: {error}") from None
    if wrong := _contradiction(found):
        raise WrongInput(f"{path} {wrong}")
    return found


def _contradiction(found: Annotations) -> str:
    """What is wrong with the contents of a file, or ""."""
    pictures, categories = {picture.id for picture in found.images}, {category.id for category in found.categories}
    if not pictures:
        return "describes no image"
    if len(pictures) < len(found.images):
        return f"describes {len(found.images)} images with {len(pictures)} different ids; each must have its own"
    if len(stems := {picture.stem for picture in found.images}) < len(pictures):
        return f"names {len(pictures)} images by {len(stems)} different file names; each must have its own"
    if len(categories) < len(found.categories):
        return "has two categories with one id"
    for picture in found.images:
        if not 1 <= min(picture.height, picture.width) <= max(picture.height, picture.width) <= LONGEST:
            return f"says that {picture.file_name} is {picture.width}x{picture.height} pixels"
    for annotation in found.annotations:
        if annotation.image_id not in pictures:
            return f"has the annotation {annotation.id} of the image {annotation.image_id}, which it does not describe"
        if annotation.category_id not in categories:
            return f"has the annotation {annotation.id} of the category {annotation.category_id}, which it does not name"
    return ""
