"""An image set on disk in the layout of PASCAL VOC: JPEGImages/, ImageSets/Segmentation/<list>.txt and folders of masks.

Nothing here opens an image, so that plans and fingerprints stay quick; what is in the files is `imagesets.check`'s business.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagesets import labels
from imagesets.errors import WrongInput
from imagesets.item_list import ItemList
from imagesets.lists import IMAGE_SUFFIXES, read_list

IMAGES = "JPEGImages"
LISTS = Path("ImageSets") / "Segmentation"
ANNOTATIONS = "Annotations"
LABEL_LIST = "image_labels.txt"
MASK_SUFFIXES = (".png",)


@dataclass(frozen=True)
class ImageSet:
    """An opened image set: its `classes` are the foreground names in order, label value = index + 1.

    `label_source` says where image-level labels come from: "list" (`listed`: id -> class names), "xml" or "masks".
    A mask is taken from the first of `mask_folders` that has one. `excluded` ids are left out of every list.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    label_source: str
    mask_folders: tuple[str, ...]
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    excluded: frozenset[str] = frozenset()

    def ids(self, list_name: str) -> tuple[str, ...]:
        """Image ids in the order of the list file; raises WrongInput for an unknown list."""
        path = self.list_path(list_name)
        if not path.is_file():
            known = sorted(file.stem for file in path.parent.glob("*.txt"))
            raise WrongInput(
                f"image set {self.name} has no list {list_name!r} in {path.parent}; it has {', '.join(known) or 'none'}"
            )
        return tuple(id for id in read_list(path) if id not in self.excluded)

    def items(self, list_name: str, with_masks: bool = False) -> ItemList:
        """The images of a list with their labels; raises WrongInput if an image, its labels or a wanted mask is missing."""
        ids = self.ids(list_name)
        images = self.image_paths()
        self._require(list_name, ids, images, "file in", [IMAGES])
        masks = self.mask_paths() if with_masks else {}
        if with_masks:
            self._require(list_name, ids, masks, "mask in", self.mask_folders)
        shown = (masks[id] for id in ids) if with_masks else None
        return ItemList.of(self.root, ids, (images[id] for id in ids), map(self.labels, ids), shown)

    def labels(self, id: str) -> tuple[int, ...]:
        """Image-level labels of one image, 0-based and ascending; raises WrongInput where they are missing or name no class."""
        if self.label_source == "xml":
            return labels.from_annotation(self.root / ANNOTATIONS / f"{id}.xml", self.classes)
        if self.label_source == "list":
            if id not in self.listed:
                raise WrongInput(f"{self.root / LABEL_LIST} has no line for the image {id}")
            return labels.from_names(self.listed[id], self.classes, f"{self.root}/{LABEL_LIST}, image {id},")
        candidates = [self.root / folder / f"{id}.png" for folder in self.mask_folders]
        mask = next((path for path in candidates if path.is_file()), None)
        if mask is None:
            raise WrongInput(f"image {id} has no mask to take its labels from: {candidates[0]} is missing")
        return labels.from_mask(mask, self.classes)

    def has_masks(self, list_name: str) -> bool:
        """Whether any image of a list has a mask, so that something can be scored on it."""
        return not self.mask_paths().keys().isdisjoint(self.ids(list_name))

    def list_path(self, list_name: str) -> Path:
        """The file of a list."""
        return self.root / LISTS / f"{list_name}.txt"

    def image_paths(self) -> dict[str, str]:
        """Every image file by id."""
        return _by_stem(self.root / IMAGES, IMAGE_SUFFIXES)

    def mask_paths(self) -> dict[str, str]:
        """Every mask file by id, from the first folder that has it."""
        found: dict[str, str] = {}
        for folder in reversed(self.mask_folders):
            found.update(_by_stem(self.root / folder, MASK_SUFFIXES))
        return found

    def _require(self, list_name: str, ids: Sequence[str], found: Mapping[str, str], what: str, folders: Sequence[str]) -> None:
        if missing := [id for id in ids if id not in found]:
            raise WrongInput(
                f"{len(missing)} of {len(ids)} images of list {list_name} have no {what} {' or '.join(folders)} "
                f"under {self.root} (first: {missing[0]}); `images check` lists them all"
            )


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    # one listing instead of one look-up per id: a network file system answers it a thousand times faster
    if not folder.is_dir():
        return {}
    names = (os.path.splitext(name) for name in os.listdir(folder))
    return {stem: os.path.join(folder, stem + suffix) for stem, suffix in names if suffix.lower() in suffixes}
