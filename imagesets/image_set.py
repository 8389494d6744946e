"""An image set on disk in the layout of PASCAL VOC: JPEGImages/, ImageSets/Segmentation/<list>.txt and folders of masks.

This module opens no image, so plans and fingerprints stay quick; `imagesets.check` looks into the files.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from imagesets import labels
from imagesets.deep_image import NO_RULE, Range
from imagesets.errors import WrongInput, named
from imagesets.files import Files, by_id, merged
from imagesets.item_list import ItemList
from imagesets.lists import FLAGS, IMAGE_SUFFIXES, entry_of, id_of, ids_of, read_lines, unread_images, write_lines

IMAGES = "JPEGImages"
LISTS = Path("ImageSets") / "Segmentation"
MASKS = "SegmentationClass"  # the usual folder of masks
AUGMENTED = "SegmentationClassAug"  # and that of masks from SBD
UNION = " + "  # between the names of lists: the images of all of them
MASK_SUFFIXES = (".png",)


@dataclass(frozen=True)
class ImageSet:
    """An opened image set: its `classes` are the foreground names in order, label value = index + 1.

    `label_source` says where image-level labels come from: "list" (`listed`: id -> class names), "xml" or "masks".
    A mask comes from the first of `mask_folders` that has it. `excluded` ids are left out of every list. `origin` says, for
    protocols, what labels and masks were made from, if we made them. `range` is the rule for images of more than 8 bits.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    label_source: str
    mask_folders: tuple[str, ...]
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    excluded: frozenset[str] = frozenset()
    image_folders: tuple[str, ...] = (IMAGES,)
    origin: str = ""
    range: Range = NO_RULE

    def ids(self, list_name: str) -> tuple[str, ...]:
        """Image ids in the order of the list file; of "train + val" those of both lists, each once.

        Raises WrongInput for an unknown list, or an id with blanks.
        """
        if UNION in list_name:
            return tuple(dict.fromkeys(id for name in list_name.split(UNION) for id in self.ids(name)))
        return tuple(id for id in self._listed(list_name) if id not in self.excluded)

    def _listed(self, list_name: str) -> tuple[str, ...]:
        """The ids of one list, also those that are excluded."""
        path = self.list_path(list_name)
        if not path.is_file():
            known = sorted(file.stem for file in path.parent.glob("*.txt") if file.is_file())
            raise WrongInput(
                f"image set {self.name} has no list {list_name!r} in {path.parent}; it has {', '.join(known) or 'none'}; "
                f"{path.name} would hold one image id a line, --list or, for a run, --set images.training=LIST or "
                "images.validation=LIST names another list, and `wsss-orch images split` makes train and val of one"
            )
        return self._read(path)

    def items(self, list_name: str, with_masks: bool = False) -> ItemList:
        """The images of a list with their labels; raises WrongInput if an image, its labels or a wanted mask is missing."""
        ids, images = self.ids(list_name), self.images()
        if problems := self.image_problems(list_name, ids, images):
            raise WrongInput("; ".join(problems))
        root = Path(os.path.commonpath([self.root, *(self.root / folder for folder in self.image_folders)]))
        found = ItemList.of(root, ids, (images.paths[id] for id in ids), map(self.label_reader(), ids), self.range)
        return self.masked(list_name, found) if with_masks else found

    def masked(self, list_name: str, items: ItemList) -> ItemList:
        """The items of a list with their masks; raises WrongInput if one is missing."""
        ids, masks = tuple(items.names()), self.masks()
        if problems := self.mask_problems(list_name, ids, masks):
            raise WrongInput("; ".join(problems))
        return items.masked(masks.paths[id] for id in ids)

    def with_mask(self, list_name: str) -> int:
        """How many images of a list have a mask, by one listing of the mask folders."""
        return len(self.masks().paths.keys() & set(self.ids(list_name)))

    def has_masks(self, list_name: str) -> bool:
        """Whether any image of a list has a mask, so that something can be scored on it."""
        return self.with_mask(list_name) > 0

    def label_reader(self) -> Callable[[str], tuple[int, ...]]:
        """A function that gives the image-level labels of an image id, 0-based and ascending.

        It raises WrongInput where they are missing or name no class.
        """
        if self.label_source == "list":
            return self._from_list()
        if self.label_source == "masks":
            return self._from_files(self.masks().paths, "mask", self._folders(), labels.from_mask)
        annotations = by_id(self.root / labels.ANNOTATIONS, (".xml",)).paths
        return self._from_files(annotations, "annotation", labels.ANNOTATIONS, labels.from_annotation)

    def list_path(self, list_name: str) -> Path:
        """The file of a list."""
        return self.root / LISTS / f"{list_name}.txt"

    def images(self) -> Files:
        """Every image file by id."""
        return merged([by_id(self.root / folder, IMAGE_SUFFIXES) for folder in self.image_folders])

    def write_list(self, path: Path, ids: Iterable[str]) -> None:
        """Write a list file with these ids."""
        paths = self.images().paths
        write_lines(path, (entry_of(id, os.path.splitext(paths.get(id, ""))[1] or IMAGE_SUFFIXES[0]) for id in ids))

    def masks(self) -> Files:
        """Every mask file by id, from the first folder that has it."""
        paths, doubled = dict[str, str](), dict[str, list[str]]()
        for folder in reversed(self.mask_folders):
            files = by_id(self.root / folder, MASK_SUFFIXES)
            paths |= files.paths
            doubled = {id: of for id, of in doubled.items() if id not in files.paths} | files.doubled
        return Files(paths, doubled)

    def remarks(self) -> list[str]:
        """A sentence on each thing in its folders that looks like a mistake: images in formats that are not read."""
        return [sentence for folder in self.image_folders for sentence in unread_images(self.root / folder)]

    def image_problems(self, list_name: str, ids: Sequence[str], images: Files) -> list[str]:
        """Missing and doubled image files of a list."""
        found = _doubled(ids, images)
        if missing := [id for id in ids if id not in images.paths]:
            found.append(
                f"{len(missing)} of {len(ids)} images of list {list_name} have no file in {self._places()} under {self.root} "
                f"({' or '.join(IMAGE_SUFFIXES)}), such as {named(missing)}; --exclude FILE goes on without them"
            )
        return found

    def mask_problems(self, list_name: str, ids: Sequence[str], masks: Files) -> list[str]:
        """Missing and doubled mask files of a list that needs a mask for every image."""
        found = _doubled(ids, masks)
        if missing := [id for id in ids if id not in masks.paths]:
            found.append(
                f"{len(missing)} of {len(ids)} images of list {list_name} have no mask in {self._folders()} under {self.root}, "
                f"such as {named(missing)}; choose a list whose images all have one by --set images.scoring=LIST or "
                f"images.validation=LIST; this makes one: ls {self.root / self.mask_folders[0]} > {self.list_path('LIST')}"
            )
        return found

    def without(self, exclude: Path) -> "ImageSet":
        """The image set without the ids of the list file `exclude`; raises WrongInput if one of them is not in the image set."""
        excluded = frozenset(self._read(exclude))
        unknown = excluded.difference(self.images().paths)
        for path in sorted((self.root / LISTS).glob("*.txt")) if unknown else ():
            unknown = unknown.difference(id_of(line.split()[0]) for line in read_lines(path))  # this image's file is missing
        if unknown:
            raise WrongInput(
                f"{len(unknown)} of {len(excluded)} ids of {exclude} are in no list of {self.root} and have no file in "
                f"{self._places()}, such as {named(sorted(unknown))}; an id is a file's name without its suffix"
            )
        return replace(self, excluded=excluded)

    def _read(self, path: Path) -> tuple[str, ...]:
        """The ids of a list file; an id with a blank is refused, not cut off, and so is a second id on a line."""
        lines = read_lines(path)
        spaced = {id for line in lines if len((id := id_of(line)).split()) > 1}
        if spaced and (there := sorted(spaced & self.images().paths.keys())):
            raise WrongInput(f"{path} names the image {there[0]!r}, but an id must not hold blanks; rename such files")
        flags = {word for line in lines for word in line.split()[1:] if word in FLAGS}
        if flags and (there := sorted(flags & self.images().paths.keys())):
            raise WrongInput(f"{path} has {there[0]} after an id, and there is an image {there[0]}; a line has one id")
        return tuple(ids_of(lines, path))

    def _from_list(self) -> Callable[[str], tuple[int, ...]]:
        path, known = labels.list_of(self.root), dict[tuple[str, ...], tuple[int, ...]]()  # by names: many images share them
        first = cache(lambda: next(iter(read_lines(path)), ""))
        told = f", such as {named(sorted(self.listed))}" if self.listed else ""

        def of_one(id: str) -> tuple[int, ...]:
            names = self.listed.get(id)
            if names is None:
                raise WrongInput(
                    f"{path} has no line for the image {id}; its first line is {first()!r}, and right would be the "
                    "id and the class names, such as '0001 cat,dog', or the id alone for an image that shows no class"
                    if path.name == labels.LABEL_LIST
                    else f"{path} names no image {id}; it names {len(self.listed)} images{told}"
                )
            if names not in known:
                known[names] = labels.from_names(names, self.classes, f"{path}, image {id},")
            return known[names]

        return of_one

    def _from_files(
        self, files: Mapping[str, str], what: str, where: str, read: Callable[[Path, Sequence[str]], tuple[int, ...]]
    ) -> Callable[[str], tuple[int, ...]]:
        def of_one(id: str) -> tuple[int, ...]:
            if id not in files:
                raise WrongInput(f"image {id} has no {what} to take its labels from in {where} under {self.root}")
            return read(Path(files[id]), self.classes)

        return of_one

    def _folders(self) -> str:
        return " or ".join(self.mask_folders)

    def _places(self) -> str:
        return " or ".join(self.image_folders)


def _doubled(ids: Sequence[str], files: Files) -> list[str]:
    found = [id for id in ids if id in files.doubled] if files.doubled else []
    if not found:
        return []
    first = " and ".join(files.doubled[found[0]])
    more = f" (likewise {named(found[1:])})" if found[1:] else ""
    return [f"the image {found[0]} has {len(files.doubled[found[0]])} files, {first}{more}; it must have one"]
