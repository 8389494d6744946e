"""The report of a finished run: one HTML page that needs no network and no other file.

What is shown is decided here; how it looks is in report.html.j2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator import figures
from orchestrator.launch import Prepared
from orchestrator.plan import Step
from orchestrator.published import published
from orchestrator.samples import samples
from orchestrator.store import read_json, write_atomically
from orchestrator.used_settings import used_settings

SAMPLES = 8  # images shown of each list
QUANTITIES = {"seed": "Seed", "pseudo": "Pseudo mask", "seg": "Segmentation"}
SCORES = {"miou": "mIoU", "precision": "Precision", "recall": "Recall", "fp": "FP", "fn": "FN"}
SHEETS = {"scoring": "Training images", "validation": "Validation images"}


def write_report(prepared: Prepared, results: Mapping[str, Any], folder: Path) -> Path:
    """Write `<folder>/report.html` for a finished plan and its `results` (see `orchestrator.launch.results`); its path."""
    steps = [step for step in prepared.steps if step.manifest is not None]
    scored = [step for step in steps if step.stage.scores]
    page = _environment().get_template("report.html.j2").render(
        results=results,
        finished=datetime.fromtimestamp(results["finished"], UTC).strftime("%d %B %Y, %H:%M UTC"),
        rows=[_row(row, step) | {"published": _published(row, step, results["images"])} for row, step in zip(results["rows"], scored, strict=True)],
        ...
    )
    path = folder / "report.html"
    write_atomically(path, page.encode())
    return path
