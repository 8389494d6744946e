"""A table of a paper beside ours, for a terminal, as Markdown, LaTeX and comma-separated values."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.reading.formats import markdown_table, of_runs, tabular, write_as, written_unit
from orchestrator.reading.numbers import NONE, scale
from orchestrator.reading.tables import WIDEST, table
from orchestrator.tables import cells
from orchestrator.tables.cells import Cell
from orchestrator.tables.columns import Column
from orchestrator.tables.findings import Findings, Line

HEAD = ("table", "row", "expression", "segmenter", "images", "launch", "score", "class", "unit", "state")
NUMBERS = ("n", "mean", "std", "min", "max", "published", "published_std", "published_on", "difference", "notes")
NARROWEST = 16, 20  # characters of a row's label and of a score on a narrow terminal


def print_table(console: Console, found: Findings) -> None:
    """Print a table with its title above, and its notes and sentences below."""
    console.print(cells.title(found))
    console.print(terminal_table(found, console.width))
    for number, note in enumerate(cells.notes(found), 1):
        console.print(f"{number}: {note}")
    for told in cells.sentences(found):
        console.print(told)


def terminal_table(found: Findings, room: int) -> Table:
    """The table for a terminal `room` wide; if that is too narrow, with a line for each row and column."""
    wide = _terminal(cells.heads(found), cells.body(found))
    if Console(width=WIDEST).measure(wide).maximum <= room:
        return wide
    segmenter, difference = cells.segmenter_cell(found, "segmenter"), cells.difference_cell(found, "diff.")
    head = [Cell("row"), *segmenter, Cell("score"), Cell("ours", number=True), cells.published_head(found), *difference]
    lines = [part for line in found.lines for part in _long(found, line)]
    made = _terminal([*head, *cells.notes_cell(found, "notes")], lines)
    made.columns[len(segmenter) + 1].min_width = NARROWEST[1]
    return made


def _long(found: Findings, line: Line) -> Iterator[list[Cell]]:
    """A line of cells for each column; the first one names the row."""
    for column in found.columns:
        first = column == found.columns[0]
        named = [line.row.label, line.row.segmenter, cells.numbers_of(found, line)] if first else ["", "", ""]
        label, segmenter, numbers = named
        scored = [Cell(column.title), *cells.values_of(found, line, column)]
        yield [Cell(label), *cells.segmenter_cell(found, segmenter), *scored, *cells.notes_cell(found, numbers)]


def _terminal(head: Sequence[Cell], lines: Sequence[Sequence[Cell]]) -> Table:
    made = table(*(f"{'>' if cell.number else ''}{cell.text}" for cell in head))
    made.columns[0].no_wrap, made.columns[0].min_width = False, NARROWEST[0]
    for line in lines:
        made.add_row(*(Text(cell.text, style="dim" if cell.elsewhere else "") for cell in line))
    return made


def markdown(found: Findings) -> str:
    """A Markdown document: the table, its notes and sentences, the tables of classes."""
    lines = [list(map(_in_markdown, line)) for line in cells.body(found)]
    parts = [f"**{cells.title(found)}**", markdown_table(list(map(_in_markdown, cells.heads(found))), lines)]
    numbered = [f"{number}. {note}" for number, note in enumerate(cells.notes(found), 1)]
    parts += ["\n".join(numbered)] if numbered else []
    parts += cells.sentences(found)
    parts += [f"{made.title}\n\n{markdown_table(made.head, made.rows)}" for made in cells.class_tables(found)]
    return "\n\n".join(parts) + "\n"


def _in_markdown(cell: Cell) -> str:
    """The text of a cell; Markdown has no grey, so a published value of another image set is in italics."""
    return f"*{cell.text}*" if cell.elsewhere and cell.text != NONE else cell.text


def latex(found: Findings) -> str:
    """LaTeX tabulars that need no package, with notes and sentences as comments."""
    parts = [f"% {cells.title(found)}", tabular(_texts(cells.heads(found)), map(_texts, cells.body(found)))]
    parts += [f"% {made.title}\n{tabular(made.head, made.rows)}" for made in cells.class_tables(found)]
    parts += [f"% {number}: {note}" for number, note in enumerate(cells.notes(found), 1)]
    return "\n".join([*parts, *(f"% {told}" for told in cells.sentences(found))]) + "\n"


def _texts(line: Sequence[Cell]) -> list[str]:
    return [cell.text for cell in line]


def comma_separated(found: Findings) -> str:
    """One line per row and column at full precision, then one per class; percentages are fractions."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((*HEAD, *NUMBERS))
    for line in found.lines:
        for column in found.columns:
            told, unit = found.published(line, column), scale(column.metric)
            published = _divided(told.mean, unit), _divided(told.std, unit), found.asked.table.images
            gap = _divided(found.difference(line, column), unit)
            notes = "; ".join(line.notes)
            writer.writerow([*_about(found, line, column), *of_runs(line.ours(column)), *published, gap, notes])
        for column in found.class_columns:
            writer.writerows(_classes(found, line, column))
    return file.getvalue()


def _classes(found: Findings, line: Line, column: Column) -> Iterator[list[object]]:
    ours, published = cells.ours_of(line, column), cells.published_of(found, line, column)
    for name in dict.fromkeys([*published, *ours]):
        value = _divided(published.get(name), 100)
        yield [*_about(found, line, column, name), *of_runs(ours.get(name)), value, None, found.asked.table.images, None, ""]


def _about(found: Findings, line: Line, column: Column, class_name: str = "") -> list[object]:
    row, state = line.row, "server only" if line.told(column) == "server only" else line.state
    about = found.asked.table.id, row.label, row.expression, row.segmenter, found.asked.images_name, cells.launch(line)
    return [*about, column.name, class_name, written_unit(column.metric), state]


def _divided(value: float | None, unit: float) -> float | None:
    """A value of a table as it is in results; 48.8 / 100 is 0.488."""
    return None if value is None else round(value / unit, 12)


def write(found: Findings, path: Path) -> None:
    """Write a table in the format that the file's ending names."""
    write_as({".md": markdown, ".tex": latex, ".csv": comma_separated}, found, path)
