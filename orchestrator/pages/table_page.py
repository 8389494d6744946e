"""A table or a figure of a paper as one HTML page: ours beside the published values, curves, and the images of all rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from orchestrator.pages.comparison_page import sheets
from orchestrator.pages.figures import (
    COLOURS,
    INK,
    LONG,
    SIZE,
    STYLE,
    blank,
    file_of,
    grid,
    in_unit,
    legend,
    line_style,
    scale_of,
    spread_line,
    svg,
)
from orchestrator.pages.page import write
from orchestrator.planning import scores
from orchestrator.reading.comparison import Entry
from orchestrator.reading.numbers import axis
from orchestrator.tables import cells
from orchestrator.tables.columns import Column
from orchestrator.tables.findings import Findings, Line


def write_page(found: Findings, path: Path) -> None:
    """Write the page of a table to `path`."""
    entries = _entries(found)
    write(
        path,
        "table.html.j2",
        found=found,
        about=found.asked.table,
        heads=cells.heads(found),
        rows=cells.body(found),
        notes=cells.notes(found),
        sentences=cells.sentences(found),
        class_tables=cells.class_tables(found),
        figures=[(_title(column, panel, lines), _figure(found, column, panel, lines)) for column, panel, lines in _panels(found)],
        sheets=sheets(entries, found.asked.store) if entries else [],
    )


def _entries(found: Findings) -> list[Entry]:
    """The rows with results, for the image browser; rows with the same runs once."""
    lines = {tuple(line.names): line for line in reversed(found.lines) if line.group}
    named = [line.row.label for line in lines.values()]
    return [
        Entry(_label(line, named), line.group, line.group.last()) for line in reversed(lines.values()) if line.group is not None
    ]


def _label(line: Line, named: Sequence[str]) -> str:
    own = line.row.label
    return own if named.count(own) == 1 else f"{own}, {line.row.segmenter or '+'.join(line.names)}"


def _panels(found: Findings) -> Iterator[tuple[Column, str, list[Line]]]:
    """The panels of a figure that have anything to draw, by column and name, with their lines; none for a table."""
    for panel in dict.fromkeys(line.row.panel for line in found.lines) if found.asked.table.is_figure else ():
        lines = [line for line in found.lines if line.row.panel == panel]
        together = not panel and all(line.row.at is None for line in lines)  # its axis are the columns
        for column in found.columns[:1] if together else found.columns:
            if any(line.group or line.row.at is not None for line in lines):
                yield column, panel, lines


def _title(column: Column, panel: str, lines: Sequence[Line]) -> str:
    alone = panel or any(line.row.at is not None for line in lines)
    return f"{column.title}{f', {panel}' if panel else ''}" if alone else f"{column.quantity} on {column.split}"


@matplotlib.rc_context(STYLE)
def _figure(found: Findings, column: Column, panel: str, lines: Sequence[Line]) -> str:
    """One panel as an <svg> element."""
    figure, axes = blank("", "")
    _draw(axes, found, column, panel, lines)
    return svg(figure, f"{found.asked.table.id} {column.name} {panel}")


@matplotlib.rc_context(STYLE)
def plot_file(found: Findings, ending: str) -> bytes:
    """All panels of a figure as a file of type `ending` (svg, png)."""
    panels = list(_panels(found))
    figure = Figure((SIZE[0] * max(len(panels), 1), SIZE[1]), layout="constrained")
    for axes, (column, panel, lines) in zip(figure.subplots(1, max(len(panels), 1), squeeze=False)[0], panels, strict=False):
        _draw(axes, found, column, panel, lines)
    return file_of(figure, ending)


def _draw(axes: Any, found: Findings, column: Column, panel: str, lines: Sequence[Line]) -> None:
    """Draw a panel: curves over its axis; of rows without a place on one, over the threshold of seeds, or over the columns."""
    grid(axes, panel or found.asked.table.axis, f"{column.quantity} {axis(scores.main_metric(column.quantity))}, {column.split}")
    if any(line.row.at is not None for line in lines):
        _curves(axes, found, column, lines)
    elif panel:
        _thresholds(axes, column, lines)
    else:
        _over_columns(axes, found, lines)
    legend(axes)


def _curves(axes: Any, found: Findings, column: Column, lines: Sequence[Line]) -> None:
    """Ours as lines, the published values as crosses, in grey if they are of another image set."""
    for number, name in enumerate(dict.fromkeys(line.row.line for line in lines)):
        points = [(line.row.at, spread) for line in lines if line.row.line == name and (spread := line.ours(column))]
        spread_line(axes, number, name or "ours", [(at, spread) for at, spread in points if at is not None], column.metric)
    told = [(line.row.at, mean) for line in lines if (mean := found.published(line, column).mean) is not None]
    if told:
        colour = COLOURS[-1] if found.asked.elsewhere else INK
        axes.plot(*zip(*told, strict=True), "x", color=colour, label=cells.published_head(found).text)
    scale_of(axes, [line.row.at for line in lines if line.row.at is not None])


def _over_columns(axes: Any, found: Findings, lines: Sequence[Line]) -> None:
    """A line for each row, from column to column."""
    for number, line in enumerate(line for line in lines if line.group):
        points = [(place, spread) for place, column in enumerate(found.columns) if (spread := line.ours(column))]
        spread_line(axes, number, line.row.label, points, found.columns[0].metric)
    titles = [fill(column.metric.title, LONG // 2) for column in found.columns]
    axes.set_xticks(range(len(found.columns)), titles)
    axes.margins(x=0.2)


def _thresholds(axes: Any, column: Column, lines: Sequence[Line]) -> None:
    """The curve of each row's first run over the threshold of its seeds."""
    rows = [(line.row.label, line.group.last().get((column.quantity, column.split))) for line in lines if line.group]
    for number, (label, row) in enumerate((label, row) for label, row in rows if row and "curve" in row.about):
        curve = row.about["curve"]
        values = in_unit(curve[scores.main(column.quantity)], scores.main_metric(column.quantity))
        axes.plot(curve["threshold"], values, label=label, **line_style(number))
