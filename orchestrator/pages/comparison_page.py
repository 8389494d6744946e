"""A comparison as one HTML page: sortable tables, figures, and the same images across methods with a slider between two.

This module decides what is shown. comparison.html.j2 has the layout, comparison.js the behaviour.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagesets.image_set import ImageSet
from orchestrator.pages.comparison_figures import figures
from orchestrator.pages.page import template
from orchestrator.pages.report import drawable, layer_of, title
from orchestrator.pages.samples import samples
from orchestrator.planning.images import open_images
from orchestrator.reading import formats
from orchestrator.reading.comparison import Comparison, Entry
from orchestrator.storage.store import Store, write_atomically

SAMPLES = 24  # images of each list in the image browser


def write_page(comparison: Comparison, store: Path, path: Path) -> None:
    """Write the page of a comparison of runs in `store` to `path`."""
    heads = formats.columns(comparison)
    classes = {formats.class_head(place): (place, formats.class_rows(comparison, place)) for place in comparison.lines}
    page = template("comparison.html.j2").render(
        comparison=comparison,
        columns=[head.removeprefix(">") for head in heads],
        numbers=[head.startswith(">") for head in heads],
        rows=formats.rows(comparison),
        class_tables={head: table for head, table in classes.items() if table[1]},
        figures=figures(comparison),
        sheets=sheets(comparison.entries, store),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())


def sheets(entries: Sequence[Entry], store: Path) -> list[dict[str, Any]]:
    """For each list the images with the results of each entry's first run; empty if entries have different images."""
    images = _images(entries, store)
    if images is None:
        return []
    made = []
    for split in dict.fromkeys(split for entry in entries for _, split in entry.last):
        layers = [
            layer_of(Store(store), row.about, f"{entry.label}: {title(quantity)}")
            for entry in entries
            for (quantity, on), row in entry.last.items()
            if on == split and drawable(quantity)
        ]
        if layers:
            shown, legend = samples(images.items(split, with_masks=True), layers, images.classes, SAMPLES)
            made.append(
                {"title": f"Images of the list {split}", "legend": legend, "samples": [_as_json(sample) for sample in shown]}
            )
    return made


def _images(entries: Sequence[Entry], store: Path) -> ImageSet | None:
    """The image set of all entries, if all have the same."""
    asked = [
        (*(entry.group.first["command"][name] for name in ("images", "exclude")), _image_settings(entry)) for entry in entries
    ]
    if any(other != asked[0] for other in asked):
        return None
    images, exclude, settings = asked[0]
    return open_images(images, settings, store, make=True, exclude=Path(exclude) if exclude else None)


def _image_settings(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.group.first["settings"].items() if name.startswith("images.")}


def _as_json(sample: Any) -> dict[str, Any]:
    return {"id": sample.id, "labels": sample.labels, "pictures": dict(sample.pictures)}
