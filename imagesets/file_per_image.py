"""A folder of another program with one file an image, named after its id: all that is wrong with it, in one go."""

from collections.abc import Callable, Sequence
from pathlib import Path

from imagesets.errors import WrongInput, named
from imagesets.file_check import THREADS, attempt
from imagesets.files import by_id
from imagesets.findings import grouped
from imagesets.item import Item
from imagesets.side_by_side import side_by_side


def file_finder(folder: Path, suffixes: Sequence[str]) -> Callable[[str], Path]:
    """A function that gives the file of an image id; it raises WrongInput if there is no file or more than one."""
    files = by_id(folder, suffixes)

    def file_of(id: str) -> Path:
        count = len(files.doubled.get(id, ())) or int(id in files.paths)
        if count != 1:
            raise WrongInput(f"{folder} has {count} files for the image {id}; it needs one: {_names(id, suffixes)}")
        return Path(files.paths[id])

    return file_of


def folder_problems(
    folder: Path, items: Sequence[Item], suffixes: Sequence[str], look: Callable[[Path, Item], list[str]]
) -> list[str]:
    """One sentence on images without a file, and for each other image what `look(path, item)` finds or raises."""
    there, file_of = by_id(folder, suffixes).paths, file_finder(folder, suffixes)
    missing = [item.id for item in items if item.id not in there]
    problems = []
    if missing:
        told = f"{folder} has no file for {len(missing)} of {len(items)} images ({named(missing, 5)})"
        problems.append(f"{told}; the first would be {_names(missing[0], suffixes)}")

    def of_one(item: Item) -> list[tuple[str, str]]:
        return [(item.id, said) for said in attempt(there[item.id], lambda: look(file_of(item.id), item))]

    found = side_by_side(of_one, (item for item in items if item.id in there), THREADS)
    return problems + grouped(problem for of_image in found for problem in of_image)


def _names(id: str, suffixes: Sequence[str]) -> str:
    return " or ".join(f"{id}{suffix}" for suffix in suffixes)
