"""A table or a figure of a paper as one HTML page: ours beside the published values, curves, and the images of all rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

from orchestrator.pages.comparison_page import sheets
from orchestrator.pages.figures import COLOURS, INK, STYLE, STYLES, blank, in_unit, scale_of, spread_line, svg
from orchestrator.pages.page import template
from orchestrator.planning import scores
from orchestrator.reading.comparison import Entry
from orchestrator.reading.numbers import axis
from orchestrator.storage.store import write_atomically
from orchestrator.tables import cells
from orchestrator.tables.columns import Column
from orchestrator.tables.findings import Findings, Line


def write_page(found: Findings, path: Path) -> None:
    """Write the page of a table to `path`."""
    entries = _entries(found)
    page = template("table.html.j2").render(
        found=found,
        about=found.asked.table,
        heads=cells.heads(found),
        rows=cells.body(found),
        notes=cells.notes(found),
        sentences=cells.sentences(found),
        class_tables=cells.class_tables(found),
        figures=list(_figures(found)),
        sheets=sheets(entries, found.asked.store) if entries else [],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())


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


def _figures(found: Findings) -> Iterator[tuple[str, str]]:
    """Titles and <svg> elements of a figure's panels; none if nothing of it has run."""
    for panel in dict.fromkeys(line.row.panel for line in found.lines) if found.asked.table.is_figure else ():
        lines = [line for line in found.lines if line.row.panel == panel]
        for column in found.columns:
            title = f"{column.title}{f', {panel}' if panel else ''}"
            if any(line.row.at is not None for line in lines):
                yield title, _curves(found, column, lines, panel)
            elif any(line.group for line in lines):
                yield title, _thresholds(column, lines, panel)


@matplotlib.rc_context(STYLE)
def _curves(found: Findings, column: Column, lines: Sequence[Line], panel: str) -> str:
    """Ours as lines, the published values as crosses, in grey if they are of another image set."""
    figure, axes = blank(panel or found.asked.table.axis, axis(column.metric))
    places = [line.row.at for line in lines if line.row.at is not None]
    for number, name in enumerate(dict.fromkeys(line.row.line for line in lines)):
        points = [(line.row.at, spread) for line in lines if line.row.line == name and (spread := line.ours(column))]
        spread_line(axes, number, name or "ours", [(at, spread) for at, spread in points if at is not None], column.metric)
    told = [(line.row.at, mean) for line in lines if (mean := found.published(line, column).mean) is not None]
    if told:
        colour = COLOURS[-1] if found.asked.elsewhere else INK
        axes.plot(*zip(*told, strict=True), "x", color=colour, label=cells.published_head(found).text)
    scale_of(axes, places)
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.6, fontsize=8)
    return svg(figure, f"{found.asked.table.id} {column.name} {panel}")


@matplotlib.rc_context(STYLE)
def _thresholds(column: Column, lines: Sequence[Line], panel: str) -> str:
    """The curve of each row's first run over the threshold of its seeds."""
    name, metric = scores.main(column.quantity), scores.main_metric(column.quantity)
    figure, axes = blank(panel, axis(metric))
    rows = [(line.row.label, line.group.last().get((column.quantity, column.split))) for line in lines if line.group]
    for number, (label, row) in enumerate((label, row) for label, row in rows if row and "curve" in row.about):
        curve, style = row.about["curve"], STYLES[number % len(STYLES)]
        axes.plot(curve["threshold"], in_unit(curve[name], metric), style, color=COLOURS[number % len(COLOURS)], label=label)
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.6, fontsize=8)
    return svg(figure, f"thresholds {column.name}")
