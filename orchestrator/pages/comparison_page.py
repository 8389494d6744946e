"""A comparison as one HTML page: sortable tables, figures, and the same images across methods.

This module decides what is shown. comparison.html.j2 has the layout, browser.js the behaviour.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.pages import SAMPLES
from orchestrator.pages.comparison_figures import figures
from orchestrator.pages.confusion import Scored, matrices
from orchestrator.pages.page import write
from orchestrator.pages.report import chosen, layer_of, title
from orchestrator.pages.samples import sheet
from orchestrator.planning import scores
from orchestrator.reading import formats
from orchestrator.reading.comparison import Comparison, Entry
from orchestrator.reading.runs import FinishedRun
from orchestrator.storage.store import Store


def write_page(comparison: Comparison, store: Path, path: Path, count: int = SAMPLES) -> str:
    """Write the page of a comparison of runs in `store` to `path`, with `count` images of each list.

    Returns a sentence if the images cannot be read any more; the page then has none.
    """
    browser, missing = list[dict[str, Any]](), ""
    try:
        browser = sheets(comparison.entries, store, count)
    except WrongInput as error:
        missing = f"the page shows no images: {error}"
    heads = formats.columns(comparison)
    classes = {formats.class_head(place): (place, formats.class_rows(comparison, place)) for place in comparison.lines}
    write(
        path,
        "comparison.html.j2",
        comparison=comparison,
        columns=[head.removeprefix(">") for head in heads],
        numbers=[head.startswith(">") for head in heads],
        rows=formats.rows(comparison),
        class_tables={head: table for head, table in classes.items() if table[1]},
        figures=figures(comparison),
        matrices=matrices(_scored(comparison), Store(store)),
        sheets=browser,
        warnings=[*comparison.warnings, *filter(None, [missing])],
    )
    return missing


def sheets(entries: Sequence[Entry], store: Path, count: int = SAMPLES) -> list[dict[str, Any]]:
    """For each list the images with the results of the first run of each entry that has the same images as the first entry."""
    first = dict(entries[0].group.first)
    images, made = FinishedRun(first["run"], Store(store), first).images(make=True), []
    shown = [(entry.label, row) for entry in entries for row in _last(entry) if scores.drawable(row["quantity"])]
    for split in dict.fromkeys(row["split"] for _, row in shown):
        rows = [(label, row) for label, row in shown if row["split"] == split]
        alike = [(label, about) for label, about in rows if about["masks"] == rows[0][1]["masks"]]
        layers = [
            layer_of(Store(store), about, f"{label}: {title(about['quantity'])}{chosen(about)}", images.classes)
            for label, about in alike
        ]
        made.append(sheet(split, images.items(split, with_masks=images.has_masks(split)), layers, images.classes, count))
    return made


def _last(entry: Entry) -> list[Mapping[str, Any]]:
    """The last row of each quantity on each list in an entry's first run, also of what has no score for want of masks."""
    made = {(row["quantity"], row["split"]): row for row in entry.group.first.get("unscored", ())}  # runs of older versions
    return [*(row.about for row in entry.last.values()), *made.values()]


def _scored(comparison: Comparison) -> Iterator[Scored]:
    """Each line with its row of every run."""
    for (quantity, split), lines in comparison.lines.items():
        for line in lines:
            entry = line.entry
            yield f"{entry.label}: {title(quantity)} on {split}", list(line.row.runs.values()), entry.group.first["classes"]
