"""The cells of a paper's table beside ours, and the sentences below it: the same for a terminal, a document and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.planning.recipes import load_all
from orchestrator.reading.numbers import NONE
from orchestrator.tables.columns import Column
from orchestrator.tables.findings import Findings, Line

SHORT = {"voc12": "VOC", "coco14": "COCO"}


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, and what it is."""

    text: str
    number: bool = False
    elsewhere: bool = False  # a published value of another image set
    hint: str = ""  # what a page tells when the mouse is over it


@dataclass(frozen=True)
class ClassTable:
    """The scores of each class: ours and the published ones of the rows that run."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def title(found: Findings) -> str:
    """ "LPCAM Table 2 (lpcam-2-voc12): caption"."""
    about = found.asked.table
    return f"{about.name} ({about.id}): {about.caption}"


def published_head(found: Findings) -> Cell:
    """The title of published values; it names their image set if ours is another."""
    elsewhere = found.asked.elsewhere
    return Cell(f"published, {SHORT[found.asked.table.images]}" if elsewhere else "published", True, elsewhere)


def heads(found: Findings) -> list[Cell]:
    """The titles of `body`."""
    cells = [Cell("row"), *segmenter_cell(found, "segmenter"), Cell("runs", number=True)]
    for column in found.columns:
        cells += [Cell(column.title, number=True), published_head(found), *difference_cell(found, "difference")]
    return [*cells, *notes_cell(found, "notes")]


def body(found: Findings) -> list[list[Cell]]:
    """A line of cells for each row."""
    return [_line(found, line) for line in found.lines]


def _line(found: Findings, line: Line) -> list[Cell]:
    runs = Cell(str(len(line.group.runs)) if line.group else "", number=True)
    values = [cell for column in found.columns for cell in values_of(found, line, column)]
    return [
        Cell(line.row.label, hint=launch(line)),
        *segmenter_cell(found, line.row.segmenter),
        runs,
        *values,
        *notes_cell(found, numbers_of(found, line)),
    ]


def values_of(found: Findings, line: Line, column: Column) -> list[Cell]:
    """Ours, the published value, and the difference if both are of one image set."""
    published = Cell(column.told_published(found.published(line, column)), True, found.asked.elsewhere)
    difference = column.told_difference(found.difference(line, column))
    return [Cell(line.told(column), number=True), published, *difference_cell(found, difference)]


def launch(line: Line) -> str:
    """The name of a row's runs without their random seeds; "" without results."""
    return line.group.name if line.group else ""


def segmenter_cell(found: Findings, text: str) -> list[Cell]:
    """The cell of a segmenter, if rows differ in it."""
    return [Cell(text)] if len({line.row.segmenter for line in found.lines if line.row.expression}) > 1 else []


def difference_cell(found: Findings, text: str) -> list[Cell]:
    """The cell of a difference; there is none between two image sets."""
    return [] if found.asked.elsewhere else [Cell(text, number=True)]


def notes_cell(found: Findings, text: str) -> list[Cell]:
    """The cell of the numbers of notes, if there are notes."""
    return [Cell(text)] if any(line.notes for line in found.lines) else []


def numbers_of(found: Findings, line: Line) -> str:
    """The numbers of the notes on a line."""
    known = notes(found)
    return ", ".join(str(known.index(note) + 1) for note in line.notes)


def notes(found: Findings) -> list[str]:
    """The notes on rows, in the order of the rows."""
    return list(dict.fromkeys(note for line in found.lines for note in line.notes))


def sentences(found: Findings) -> list[str]:
    """What stands below the notes: whose values these are, how ours was measured, the paper's note and optimum, correlations."""
    about, told = found.asked.table, []
    if found.asked.elsewhere and about.columns:
        told.append(
            f"The published values are of {load_all()[about.images].title} and ours of {found.asked.images_name}, "
            "so no differences are shown."
        )
    if isinstance(about.runs, int):
        told.append(f"Published values are means of {about.runs} runs.")
    if found.protocol:
        told.append(found.protocol)
    if about.note:
        told.append(about.note)
    if about.optimum:
        told.append(f"The paper's optimum: {', '.join(f'{name}={value}' for name, value in about.optimum.items())}.")
    return [*told, *(_correlation(*known) for known in found.correlations().items())]


def _correlation(column: Column, known: tuple[float, int]) -> str:
    value, count = known
    return f"{column.title}: rank correlation of ours with the published values {value:+.2f} (Spearman, {count} rows)."


def class_tables(found: Findings) -> list[ClassTable]:
    """A table for each column with one value a class, if a row with an expression has such values."""
    made = []
    for column in found.class_columns:
        shown = [line for line in found.lines if line.row.expression and (line.group or found.published(line, column).classes)]
        own = [name for line in shown for name in ours_of(line, column)]
        names = dict.fromkeys([*found.asked.table.classes, *own])
        head = ["class", *(text for line in shown for text in (line.row.label, published_head(found).text))]
        if shown:
            made.append(ClassTable(column.title, head, [[name, *_of_class(found, shown, column, name)] for name in names]))
    return made


def _of_class(found: Findings, shown: Sequence[Line], column: Column, name: str) -> list[str]:
    cells = []
    for line in shown:
        value = published_of(found, line, column).get(name)
        cells += [column.told_measured(ours_of(line, column).get(name)), NONE if value is None else f"{value:.1f}"]
    return cells


def ours_of(line: Line, column: Column) -> Mapping:
    """Our scores of each class."""
    return column.classes(line.group) if line.group else {}


def published_of(found: Findings, line: Line, column: Column) -> dict[str, float | None]:
    """The published scores of each class, in percent."""
    return dict(zip(found.asked.table.classes, found.published(line, column).classes, strict=False))
