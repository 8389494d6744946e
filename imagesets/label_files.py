"""Image-level labels from files of other programs: CSV tables, and the exports of Label Studio and CVAT.

Each reader gives {image id: class names}. An image that a file names without any class shows none; an image that it does not
name has no labels.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from imagesets.errors import WrongInput
from imagesets.files import composed
from imagesets.lists import IMAGE_SUFFIXES, id_of, read_lines

Names = dict[str, tuple[str, ...]]
IMAGE_COLUMNS = ("image", "id", "image_id", "filename", "file_name", "file", "path", "image_path", "name")
LABEL_COLUMNS = ("label", "labels", "class", "classes", "class_name", "category", "choice", "tags")
YES, NO = ("1", "1.0", "true", "yes", "x"), ("", "0", "0.0", "false", "no")
UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio begins the name of an uploaded file with this


def read_csv(path: Path, classes: Sequence[str]) -> Names:
    """A table whose first line names its columns: that of the image, and one of the names or one of 0 and 1 for each class.

    Several names in a cell have a comma, a semicolon or | between them; several lines of one image are added up.
    """
    first, head, rows = _table(path)
    image, names, ticks = _columns(path, first, head, classes)
    if short := next((row for row in rows if len(row) != len(head)), None):
        raise WrongInput(f"{path} has the line {short} with {len(short)} cells; its first line names {len(head)} columns")

    if ticks and names >= 0 and any(name in classes for row in rows for name in _split(row[names])):
        raise WrongInput(f"{path} has the column {head[names]!r} of class names and columns of classes; keep one of the two")

    def of_row(row: Sequence[str]) -> Iterator[str]:
        if ticks:
            return (head[place] for place in ticks if _ticked(row[place], f"{path}, column {head[place]}, line {row}"))
        return _split(row[names])

    return _added((_id(row[image]), of_row(row)) for row in rows)


def unused_columns(path: Path, classes: Sequence[str]) -> list[str]:
    """The columns of a readable table that tick images as those of the classes do, and are none of the classes."""
    first, head, rows = _table(path)
    image, _, ticks = _columns(path, first, head, classes)
    others = [place for place, name in enumerate(head) if ticks and place != image and name not in classes]
    cells = {head[place]: {row[place].strip().lower() for row in rows} for place in others}
    return [name for name, own in cells.items() if own <= {*YES, *NO} and own & {*YES}]


def _table(path: Path) -> tuple[str, list[str], list[list[str]]]:
    """The first line of a table, its cells, and those of the other lines."""
    first = next(iter(read_lines(path)), "")
    rows, read = list[list[str]](), 0  # and the number of lines that were read
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(file)
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count))
    try:
        for row in reader:
            own = lines[read : reader.line_num]
            if len(own) > 1 and "".join(own).count('"') % 2:
                raise WrongInput(f"{path}, line {read + 1}: a quotation mark is not closed")
            rows += [row] if any(cell.strip() for cell in row) else []
            read = reader.line_num
    except csv.Error as error:
        raise WrongInput(f"{path}, line {read + 1}: {error}; is a quotation mark not closed?") from None
    return first, [composed(cell.strip()) for cell in rows[0]] if rows else [], rows[1:]


def _columns(path: Path, first: str, head: Sequence[str], classes: Sequence[str]) -> tuple[int, int, list[int]]:
    """The columns of the image and of its class names, and those of the classes, which replace the names; -1 for no names.

    `first` is the first line, `head` its cells.
    """
    image, names = _column(head, IMAGE_COLUMNS), _column(head, LABEL_COLUMNS, classes)
    if not classes and names is None:  # then every other column is a class
        classes = [cell for place, cell in enumerate(head) if place != image]
    ticks = [place for place, cell in enumerate(head) if cell in classes]
    if image is None or not (ticks or names is not None):
        raise WrongInput(
            f"{path} begins with {first!r}; its first line must name the column of the image (such as image or filename) and "
            "either a column label or a column for each class of classes.txt, with 0 and 1 in it"
        )
    if ticks and (wrong := [name for name in classes if head.count(name) != 1]):
        count = f"{head.count(wrong[0])} columns" if wrong[0] in head else "no column"
        raise WrongInput(f"{path} has {count} for the class {wrong[0]!r}; its columns are {', '.join(head)}")
    return image, -1 if names is None else names, ticks


def read_label_studio(path: Path, classes: Sequence[str]) -> Names:
    """An export of Label Studio as JSON or JSON-MIN: choices of images, and the labels of their boxes, polygons and brushes.

    Tasks without an annotation are not labelled yet.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise WrongInput(f"{path} is no JSON file: {error}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise WrongInput(f"{path} is no export of Label Studio in the form JSON or JSON-MIN, which is a list of tasks")
    found: list[tuple[str, Iterable[str]]] = []
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {task.get('id', number)}"
        try:
            found += _of_task(task, where, classes)
        except (AttributeError, TypeError):
            raise WrongInput(
                f"{where}: not in the form of Label Studio, where data, annotations, results and values have keys, and choices "
                "and labels are lists of texts"
            ) from None
    if found and not any(names for _, names in found):
        keys = ", ".join(dict.fromkeys(key for task in tasks for key in task))
        raise WrongInput(f"{path} names no class of any image; its tasks have {keys}; name the classes to recognise them")
    return _added(found)


def _of_task(task: dict[str, Any], where: str, classes: Sequence[str]) -> Iterator[tuple[str, Iterable[str]]]:
    """The image of a task with the class names of each of its annotations; `where` is its place, for messages.

    AttributeError or TypeError for a task in another form.
    """
    data = task.get("data", task)  # JSON-MIN has the data and the results side by side
    images = [value for value in data.values() if isinstance(value, str) and _file(value).lower().endswith(IMAGE_SUFFIXES)]
    if len(images) != 1:
        raise WrongInput(f"{where}: its data have {len(images)} images; a task must have one")
    id = UPLOADED.sub("", _id(images[0]))
    if "data" in task:
        for annotation in task.get("annotations", []):
            if not annotation.get("was_cancelled"):
                yield id, [name for result in annotation.get("result", []) for name in _named(result.get("value", {}))]
    else:
        results = (value for value in task.values() if isinstance(value, (dict, list)))
        # a single choice is a plain text, whose key is the name that a person has given to the question
        choices = [
            value for key, value in task.items() if isinstance(value, str) and (key == "choice" or composed(value) in classes)
        ]
        yield id, [*choices, *(name for value in results for name in _named(value))]


def _named(value: Any) -> Iterator[str]:
    """The class names in a result: the texts of all lists whose key is choices or ends in labels; TypeError for other ones."""
    if isinstance(value, list):
        for one in value:
            yield from _named(one)
    elif isinstance(value, dict):
        for key, names in value.items():
            if key == "choices" or (key.endswith("labels") and isinstance(names, list)):
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    raise TypeError
                yield from names


def read_cvat(path: Path, classes: Sequence[str]) -> Names:
    """An export of CVAT in the form "CVAT for images": the labels of its tags and shapes. Images without any show no class."""
    root = read_xml(path, "no XML file")
    images = root.findall("image")
    if root.tag != "annotations" or not images:
        raise WrongInput(f"{path} is no export of CVAT in the form 'CVAT for images', which has <annotations> with <image>s")
    if nameless := sum(not image.get("name") for image in images):
        raise WrongInput(f"{path} has {nameless} <image>s without a name; the name of its file tells which image it is")
    return _added(
        (_id(image.get("name", "")), [mark.get("label", "") for mark in image if mark.get("label")]) for image in images
    )


def read_xml(path: Path, otherwise: str) -> ElementTree.Element:
    """The root of an XML file; raises WrongInput for other files, which are `otherwise`."""
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise WrongInput(f"{path} is {otherwise}: {error}") from None
    except (ValueError, LookupError) as error:  # Python knows none or several bytes a character in its encoding, such as GBK
        raise WrongInput(f"{path} is in an encoding that is not read ({error}); save it as UTF-8") from None


def _column(head: Sequence[str], names: Sequence[str], others: Sequence[str] = ()) -> int | None:
    """The first column with one of these names, but none of `others`."""
    return next((place for place, cell in enumerate(head) if cell.lower() in names and cell not in others), None)


def _ticked(cell: str, where: str) -> bool:
    if cell.strip().lower() not in (*YES, *NO):
        raise WrongInput(f"{where} has {cell!r}; it must be 1 where the image shows the class, and else 0 or empty")
    return cell.strip().lower() in YES


def _split(cell: str) -> Iterator[str]:
    return (name.strip() for name in re.split(r"[,;|]", composed(cell)) if name.strip())


def _file(place: str) -> str:
    """The name of a file in a path or an address, also in one of Label Studio (/data/local-files/?d=photographs/0001.jpg)."""
    return re.split(r"[/\\]", unquote(place))[-1].removeprefix("?d=").strip()


def _id(place: str) -> str:
    return id_of(_file(place))


def _added(found: Iterable[tuple[str, Iterable[str]]]) -> Names:
    """The names of each image, those of several findings in one; images with equal names share one tuple."""
    added: Names = {}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    for id, names in found:
        all_names = tuple(dict.fromkeys((*added.get(id, ()), *names)))
        added[id] = shared.setdefault(all_names, all_names)
    return added
