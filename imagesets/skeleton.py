"""A new image set in VOC layout for `folder:PATH`, from a folder of photographs and what is known of them."""

import csv
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagesets.errors import WrongInput, named
from imagesets.files import by_id, composed, refuse_other_encodings
from imagesets.folder import CLASSES, checked_classes, found_classes
from imagesets.image_set import IMAGES, LISTS, MASKS
from imagesets.label_files import Names
from imagesets.labels import LABEL_LIST, from_names, reader_of
from imagesets.lists import IMAGE_SUFFIXES, entry_of, held_out, images_below, unread_images, write_lines

TABLE = "image_labels.csv"
ABOUT = """# What belongs where

- `JPEGImages/`: the images. Their names without suffix are their ids, without blanks.
- `ImageSets/Segmentation/train.txt`: ids of the images to learn from, one a line; `val.txt`: those to score the segmenter on.
- `classes.txt`: the names of the classes, one a line, without background.
- `image_labels.txt`: an image a line, its id and the names of its classes: `0001 cat,dog`. An image that shows none has its id
  alone.
  Or `image_labels.csv`: a table with a column for each class and a 1 where the image shows it.
- `SegmentationClass/`: masks as PNG, for scores alone. 0 is background, 1 the first line of `classes.txt` and so on, 255 void.
- `settings.yaml`: settings of runs, for `--recipe`.
"""


def read_labels(path: Path, classes: Sequence[str]) -> tuple[Names, tuple[str, ...]]:
    """The class names by image id in a file of labels, and the classes: those given, or all that it names."""
    classes = tuple(map(composed, classes))
    names = reader_of(path)(path, classes)
    if classes:
        return names, checked_classes(classes, path)
    return names, found_classes(sorted({composed(name) for own in names.values() for name in own}), path, "by --classes")


def write_skeleton(folder: Path, classes: Sequence[str], files: Mapping[str, Path], labels: Names | None) -> dict[str, int]:
    """Fill the empty `folder` with an image set; returns the number of images by list.

    The photographs `files`, by id, are copied, upright; a fifth of them, chosen by their names, is the list val. Without
    `labels` there is a table to fill in. Raises WrongInput for labels of other images or classes.
    """
    if labels is not None:
        labels = _known(labels, files)
        for id, names in labels.items():
            from_names(names, classes, f"--labels, image {id},")
    for name in (IMAGES, MASKS, str(LISTS)):
        (folder / name).mkdir(parents=True)
    for id, path in files.items():
        _copy(path, folder / IMAGES / f"{id}{path.suffix.lower()}")

    def entry(id: str) -> str:
        return entry_of(id, files[id].suffix.lower() if id in files else IMAGE_SUFFIXES[0])

    apart = held_out(files)
    lists = {"train": [id for id in files if id not in apart], "val": [id for id in files if id in apart]}
    for name, ids in lists.items():
        write_lines(folder / LISTS / f"{name}.txt", map(entry, ids))
    write_lines(folder / CLASSES, classes)
    if labels is None:
        with (folder / TABLE).open("w", encoding="utf-8", newline="") as table:
            csv.writer(table, lineterminator="\n").writerows(
                [("image", *classes), *((entry(id), *("" for _ in classes)) for id in files)]
            )
    else:
        write_lines(folder / LABEL_LIST, (f"{entry(id)}\t{','.join(names)}" for id, names in labels.items()))
    (folder / "README.md").write_text(ABOUT, encoding="utf-8")
    return {name: len(ids) for name, ids in lists.items()}


def left_out(folder: Path, files: Mapping[str, Path], labels: Names | None) -> list[str]:
    """A sentence on each thing that is not taken: images of other formats, those in folders below, labels of other images."""
    others = [id for id in labels or () if _without_blanks(id) not in files]
    told = [f"--labels names images that are not in {folder}: {len(others)} ({named(others)})"] if others else []
    return [*unread_images(folder), *images_below(folder, "are not copied"), *told]


def photographs_in(folder: Path) -> dict[str, Path]:
    """The photographs of a folder by id, with underscores for blanks, in order; WrongInput for fewer than two."""
    if not folder.is_dir():
        raise WrongInput(f"--photographs {folder}: there is no such folder")
    files = by_id(folder, IMAGE_SUFFIXES)
    refuse_other_encodings(files.paths, folder)
    found: dict[str, Path] = {}
    for stem in sorted(files.paths):
        id = _without_blanks(stem)
        if stem in files.doubled or id in found:
            raise WrongInput(f"--photographs {folder} has several files of one name, {stem}, without suffix; rename one of them")
        found[id] = Path(files.paths[stem])
    if len(found) < 2:
        rest = "".join(f"; {sentence}" for sentence in unread_images(folder))
        raise WrongInput(
            f"--photographs {folder} holds {len(found) or 'no'} image ({', '.join(IMAGE_SUFFIXES)}); an image set needs two, one "
            f"for each of train and val{rest}"
        )
    return found


def _known(labels: Names, files: Mapping[str, Path]) -> Names:
    """The labels of the photographs; all labels if there are no photographs yet."""
    found = {_without_blanks(id): names for id, names in labels.items()}
    if not files:
        return found
    if missing := [id for id in files if id not in found]:
        raise WrongInput(
            f"--labels names {len(found)} images, such as {named(list(found), 1)}, but not {len(missing)} of the {len(files)} in "
            f"{files[missing[0]].parent}, such as {named(missing)}; an image that shows no class is named without one"
        )
    return {id: found[id] for id in files}


def _without_blanks(name: str) -> str:
    return re.sub(r"\s+", "_", name.strip())


def _copy(source: Path, target: Path) -> None:
    """Copy a photograph; one that its camera held sideways is written upright."""
    from PIL import Image, ImageOps

    from imagesets.file_check import UPRIGHT, orientation_of

    try:
        with Image.open(source) as file:
            if orientation_of(file) in UPRIGHT:
                shutil.copyfile(source, target)
            else:
                ImageOps.exif_transpose(file).save(target, quality=95)
    except OSError as error:
        raise WrongInput(f"{source} cannot be copied: {error}") from None
