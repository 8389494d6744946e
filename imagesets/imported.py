"""A folder with one file an image, named after its id, that another program left: what is wrong with it, told in one go."""

from collections.abc import Callable, Sequence
from pathlib import Path

from imagesets.check import attempt
from imagesets.errors import WrongInput
from imagesets.item import Item
from imagesets.side_by_side import side_by_side

THREADS = 4  # files read at a time; decoding runs without the interpreter lock


def file_of(folder: Path, id: str, suffixes: Sequence[str]) -> Path:
    """The file of image `id`; raises WrongInput where there is none, or one for several of the `suffixes`."""
    there = [path for suffix in suffixes if (path := folder / f"{id}{suffix}").is_file()]
    if len(there) != 1:
        raise WrongInput(f"{folder} has {len(there)} files for the image {id}; it needs one: {_names(id, suffixes)}")
    return there[0]


def folder_problems(
    folder: Path, items: Sequence[Item], suffixes: Sequence[str], look: Callable[[Path, Item], list[str]]
) -> list[str]:
    """Images without a file in one sentence, and for each of the others what `look(path, item)` finds or raises."""
    missing = [item.id for item in items if not any((folder / f"{item.id}{suffix}").is_file() for suffix in suffixes)]
    problems = []
    if missing:
        named = f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"
        wanted = _names(missing[0], suffixes)
        problems.append(f"{folder} has no file for {len(missing)} of {len(items)} images ({named}); the first would be {wanted}")

    def of_one(item: Item) -> list[str]:
        return attempt(folder / item.id, lambda: look(file_of(folder, item.id, suffixes), item))

    left_out = set(missing)
    found = side_by_side(of_one, (item for item in items if item.id not in left_out), THREADS)
    return problems + [problem for of_image in found for problem in of_image]


def _names(id: str, suffixes: Sequence[str]) -> str:
    return " or ".join(f"{id}{suffix}" for suffix in suffixes)
