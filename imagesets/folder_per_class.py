"""One folder per class: PATH/cat/1.jpg shows a cat. The folder is the label, so there is no other file to write.

`PATH/train/cat/1.jpg` and `PATH/val/cat/2.jpg` put images into lists. Without such folders the list val has the images with a
mask or, where there are none, a fifth of all, chosen by their names; train has the others. Masks are in PATH/masks under the
path of their image: `masks/cat/1.png`. Images in a folder `none` show no class. One picture in several folders shows all of
their classes.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from filecmp import cmp
from itertools import combinations
from pathlib import Path
from typing import Any

from imagesets.deep_image import NO_RULE
from imagesets.errors import WrongInput, named
from imagesets.files import Files, by_id, composed, existing, refuse_other_encodings
from imagesets.folder import CLASSES, NO_CLASS, found_classes, read_classes
from imagesets.image_set import MASK_SUFFIXES, ImageSet
from imagesets.layout import name_of
from imagesets.lists import IMAGE_SUFFIXES, held_out

MASKS = "masks"
NONE = {"none", *NO_CLASS}  # folders of images that show no class, in any capitals
NO_IMAGES = {MASKS, "__MACOSX"}  # macOS puts the latter, with notes on each file, into the archives that it makes


@dataclass(frozen=True)
class ClassFolders(ImageSet):
    """An image set whose lists, images and masks are those that its folders hold."""

    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    image_files: Files = field(default_factory=lambda: Files({}, {}), repr=False)
    mask_files: Files = field(default_factory=lambda: Files({}, {}), repr=False)

    def list_path(self, list_name: str) -> Path:
        """The folder of a list, or the one that it would have."""
        return self.root / list_name

    def images(self) -> Files:
        """Every image file by id."""
        return self.image_files

    def masks(self) -> Files:
        """Every mask file by id."""
        return self.mask_files

    def label_reader(self) -> Callable[[str], tuple[int, ...]]:
        """A function that gives the image-level labels of an image id, 0-based and ascending."""
        return self._from_list()

    def remarks(self) -> list[str]:
        """A sentence on each thing in its folders that looks like a mistake."""
        return [*super().remarks(), *self._stray_masks(), *self._shared_pictures()]

    def _stray_masks(self) -> list[str]:
        """One sentence on files in the folder of masks that are no mask of an image."""
        above, lost = self.root / MASKS, list[str]()
        for folder, _, names in os.walk(above):
            place = Path(folder).relative_to(above)
            images, masks = by_id(self.root / place, IMAGE_SUFFIXES).paths, by_id(Path(folder), MASK_SUFFIXES)
            fit = {path for id, path in masks.paths.items() if id in images}.union(*masks.doubled.values())
            lost += (str(place / name) for name in names if name[0] != "." and os.path.join(folder, name) not in fit)
        told = f"{len(lost)} files in {above} are no mask of an image: {named(sorted(lost))}; the mask of cat/1.jpg is cat/1.png"
        return [told] if lost else []

    def _shared_pictures(self) -> list[str]:
        """One sentence on pictures that are in several lists, by files of one name and content."""
        places: dict[tuple[str, int], list[tuple[str, str]]] = {}
        for name in sorted(self.lists):
            for path in filter(os.path.isfile, (self.image_files.paths[id] for id in self.ids(name))):  # not links to nowhere
                places.setdefault((Path(path).stem, os.path.getsize(path)), []).append((name, path))
        pairs = (next(_alike(own), None) for own in places.values())
        if not (found := [pair for pair in pairs if pair]):
            return []
        told = f"{len(found)} pictures are in several lists, such as {' and '.join(found[0])}"
        return [f"{told}; a list that is held out must share none"]

    def _listed(self, list_name: str) -> tuple[str, ...]:
        if list_name not in self.lists:
            raise WrongInput(
                f"image set {self.name} has no list {list_name!r}; it has {', '.join(self.lists)}, and the images of another "
                f"list would be in {self.root / list_name}/CLASS"
            )
        return self.lists[list_name]


@dataclass
class Picture:
    """One picture: its list ("" where there are none), its files, the first of which is read, and the folders that hold them.

    All files have one name, whose part before the suffix is `stem`.
    """

    split: str
    stem: str
    files: list[Path]
    folders: list[str]
    doubled: list[str]

    @property
    def id(self) -> str:
        """List, folder and name without suffix, joined by hyphens; blanks become underscores."""
        return composed(re.sub(r"\s+", "_", "-".join(filter(None, (self.split, self.folders[0], self.stem)))))


def open_folder_per_class(path: str | Path, settings: Mapping[str, Any]) -> ImageSet:
    """Open the folder `path`, which has a folder for each class; `settings` as in `imagesets.layout.open_layout`.

    The classes are those in classes.txt or, without this file, the names of the folders in alphabetical order.
    """
    root = existing(path, "have a folder for each class")
    folders = _folders(root)
    classes = _classes(root, {composed(folder.name) for _, folder in folders})
    pictures = list(_pictures(folders))
    refuse_other_encodings((*classes, *(picture.id for picture in pictures)), root)
    images, masks = _files(root, folders, pictures)
    rule = settings.get("range", NO_RULE)
    return ClassFolders(
        name=name_of(root, settings),
        root=root,
        classes=classes,
        label_source="folders",
        mask_folders=(MASKS,),
        listed={picture.id: tuple(name for name in picture.folders if name in classes) for picture in pictures},
        image_folders=tuple(dict.fromkeys(str(folder.relative_to(root)) for _, folder in folders)),
        range=(rule[0], rule[1]),
        lists=_lists(pictures, masks),
        image_files=images,
        mask_files=masks,
    )


def _classes(root: Path, folders: set[str]) -> tuple[str, ...]:
    """The classes: those in classes.txt, or else the names of the folders. WrongInput for a folder that is none of the former."""
    listed = root / CLASSES
    given = read_classes(listed) if listed.is_file() else ()
    names = sorted(name for name in folders if name in given or name.lower() not in NONE)
    if unknown := [name for name in names if given and name not in given]:
        raise WrongInput(f"{root} has the folder {unknown[0]!r}, which is no class of {listed}")
    return given or found_classes(names, root, f"in {CLASSES}")


def _files(root: Path, folders: list[tuple[str, Path]], pictures: list[Picture]) -> tuple[Files, Files]:
    """The image and the mask of each picture by its id; the mask is that of its first file that has one."""
    images, masks = Files({}, {}), Files({}, {})
    drawn = {folder: by_id(root / MASKS / folder.relative_to(root), MASK_SUFFIXES) for _, folder in folders}
    for picture in pictures:
        _add(images, picture.id, str(picture.files[0]), picture.doubled)
        if masked := next((file for file in picture.files if picture.stem in drawn[file.parent].paths), None):
            own = drawn[masked.parent]
            _add(masks, picture.id, own.paths[picture.stem], own.doubled.get(picture.stem, []))
    return images, masks


def _folders(root: Path) -> list[tuple[str, Path]]:
    """Every folder of a class, with its list, "" if there are no folders of lists. WrongInput for images in other places."""
    if stray := next(iter(by_id(root, IMAGE_SUFFIXES).paths.values()), None):
        raise WrongInput(f"{stray} is in no folder of a class; an image without any class belongs in {root / 'none'}")
    above = _below(root)
    found = [("", folder) for folder in above]
    if not _have_images(found):
        found = [(composed(folder.name), inner) for folder in above for inner in _below(folder)]
    if not _have_images(found):
        raise WrongInput(f"{root} has no images in {root}/CLASS nor in {root}/LIST/CLASS ({' or '.join(IMAGE_SUFFIXES)})")
    if deep := next((inner for _, folder in found for inner in _below(folder) if _have_images([("", inner)])), None):
        raise WrongInput(f"{deep} is a folder in a folder of a class; images are in {deep.parent} itself")
    return found


def _have_images(folders: list[tuple[str, Path]]) -> bool:
    return any(by_id(folder, IMAGE_SUFFIXES).paths for _, folder in folders)


def _below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name not in NO_IMAGES and path.name[0] != "."]


def _pictures(folders: list[tuple[str, Path]]) -> Iterator[Picture]:
    """The pictures in these folders; files of one name and content in several folders of a list are one picture."""
    alike: dict[tuple[str, str], list[Picture]] = {}
    for split, folder in folders:
        files = by_id(folder, IMAGE_SUFFIXES)
        for stem in sorted(files.paths):
            file = Path(files.paths[stem])
            same = alike.setdefault((split, stem), [])
            if picture := next((other for other in same if _equal(other.files[0], file)), None):
                picture.files.append(file)
                picture.folders.append(composed(folder.name))
            else:
                same.append(Picture(split, stem, [file], [composed(folder.name)], files.doubled.get(stem, [])))
    return (picture for same in alike.values() for picture in same)


def _alike(files: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The pairs of files, each given with its list, that are one picture in two lists."""
    for (one_list, one), (other_list, other) in combinations(files, 2):
        if one_list != other_list and _equal(one, other):
            yield one, other


def _equal(one: str | Path, other: str | Path) -> bool:
    """Whether two files have one content; a link to nowhere has none."""
    return os.path.isfile(one) and os.path.isfile(other) and cmp(one, other, shallow=False)


def _add(files: Files, id: str, path: str, doubled: list[str]) -> None:
    if (other := files.paths.setdefault(id, path)) != path:
        files.doubled[id] = [*files.doubled.get(id, [other]), path]
    if doubled:
        files.doubled[id] = doubled


def _lists(pictures: list[Picture], masks: Files) -> dict[str, tuple[str, ...]]:
    """The ids of each list, by the folders of lists or else by the rule of this module."""
    found: dict[str, list[str]] = {}
    for picture in pictures:
        found.setdefault(picture.split, []).append(picture.id)
    if "" in found:
        ids = found.pop("")
        apart = set(masks.paths) or held_out(ids)
        found = {"train": [id for id in ids if id not in apart], "val": [id for id in ids if id in apart]}
    return {name: tuple(sorted(set(ids))) for name, ids in found.items()}
