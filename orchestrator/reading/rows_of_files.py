"""Rows of results from CSV files, for `compare --with`: runs that were measured elsewhere, or figures of papers.

A file has a column for each metric, in percent (results/README.md), or is one that `compare --to` has written.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.planning import scores
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.numbers import scale
from orchestrator.reading.summary import Scored

NEEDED = ("method", "quantity", "split")
LABEL = ("method", "settings", "segmenter")  # what a row is called
Values = dict[str, tuple[float, float | None]]  # the mean and, if known, the deviation of each metric
Read = tuple[Mapping[str, str], Values]  # a line, and the metrics of its row
NUMBER = re.compile(r"(-?[\d.]+)(?:\s*(?:±|\+/?-)\s*([\d.]+))?")  # 62.6, or 62.6 ± 1.0


@dataclass(frozen=True)
class GivenRow:
    """One row of a file; its values are fractions or in the metric's unit."""

    label: str
    of: str
    runs: str
    values: Values
    source: str


def given_rows(paths: Iterable[Path], images: str, wanted: Sequence[Scored]) -> dict[Scored, list[GivenRow]]:
    """The rows of files by quantity and list, of those `wanted` and of the image set `images`.

    Raises WrongInput for a file that is no such table or has no such row.
    """
    found: dict[Scored, list[GivenRow]] = {}
    for path in paths:
        own = _read(path, images)
        fitting = {place: rows for place, rows in own.items() if place in wanted}
        if not fitting:
            there = ", ".join(f"{quantity} on {split}" for quantity, split in own) or f"nothing on {images}"
            compared = ", ".join(f"{quantity} on {split}" for quantity, split in wanted)
            raise WrongInput(f"--with {path} has no row to compare: it has {there}, and the runs have {compared}")
        for place, rows in fitting.items():
            found.setdefault(place, []).extend(rows)
    return found


def _read(path: Path, images: str) -> dict[Scored, list[GivenRow]]:
    lines = _lines(path)
    written = {"metric", "mean", "class"} <= lines[0].keys()
    each = _written(path, lines) if written else [(line, _values(path, number, line)) for number, line in enumerate(lines, 2)]
    found: dict[Scored, list[GivenRow]] = {}
    for line, values in each:
        if written or line.get("images") in (None, "", images):  # in a written file it is the number of images
            label = " ".join(filter(None, (line.get(name) for name in LABEL)))
            runs = line.get("runs") or line.get("n", "")
            source = "" if line.get("published") else line.get("source")  # beside a published figure it is that figure's
            found.setdefault((line["quantity"], line["split"]), []).append(
                GivenRow(label, line.get("of", ""), runs, values, source or path.name)
            )
    return found


def _lines(path: Path) -> list[dict[str, str]]:
    """The lines of a file by column; all have the needed columns and a known quantity."""
    if not path.is_file():
        raise WrongInput(f"--with {path}: there is no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [{name: (value or "").strip() for name, value in line.items() if name} for line in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise WrongInput(f"--with {path} cannot be read as CSV ({error})") from None
    if not lines:
        raise WrongInput(f"--with {path} has no lines; it needs a heading and a line for each result")
    if missing := [name for name in NEEDED if name not in lines[0]]:
        raise WrongInput(f"--with {path} has no column {missing[0]!r}; it has {', '.join(lines[0])}")
    for number, line in enumerate(lines, start=2):
        if line["quantity"] not in scores.quantities():
            told = f"there is no quantity {line['quantity']!r}; there are {', '.join(scores.quantities())}"
            raise WrongInput(f"--with {path}, line {number}: {told}")
    return lines


def _values(path: Path, number: int, line: Mapping[str, str]) -> Values:
    """The metrics of a line with a column for each."""
    metrics = scores.metrics([line["quantity"]])
    columns = {name: metric for name, metric in metrics.items() if name in line}
    if not columns:
        raise WrongInput(f"--with {path} has no column of a metric of {line['quantity']}, such as {', '.join(list(metrics)[:3])}")
    return {
        name: _value(f"--with {path}, line {number}, {name}", line[name], metric, name == scores.main(line["quantity"]))
        for name, metric in columns.items()
        if line[name]
    }


def _value(where: str, told: str, metric: Metric, main: bool) -> tuple[float, float | None]:
    found = NUMBER.fullmatch(told)
    try:
        mean, std = (float(part) if part else None for part in found.groups()) if found else (None, None)
    except ValueError:
        mean = std = None
    if mean is None:
        raise WrongInput(f"{where}: {told!r} is no number such as 62.6 or 62.6 ± 1.0")
    share = main and 0 < mean <= 1  # scores of contours and of small objects, which are no main ones, may be below 1 %
    if metric.unit == "percent" and (share or not 0 <= mean <= 100):
        raise WrongInput(f"{where}: {told} is not in percent; write 62.6 for a share of 0.626")
    return mean / scale(metric), None if std is None else std / scale(metric)


def _written(path: Path, lines: Sequence[Mapping[str, str]]) -> list[Read]:
    """The rows of a file that `compare --to` has written: a line for each metric, as fractions, and lines for classes."""
    rows: list[Read] = []
    latest: dict[tuple[str, ...], Read] = {}
    for number, line in enumerate(lines, start=2):
        if line["class"] or not line["mean"]:
            continue
        if line["metric"] not in (known := scores.metrics([line["quantity"]])):
            told = f"there is no metric {line['metric']!r} of {line['quantity']}; there are {', '.join(known)}"
            raise WrongInput(f"--with {path}, line {number}: {told}")
        key = tuple(line.get(name, "") for name in ("method", "run", "quantity", "of", "split"))
        if line["metric"] in latest.get(key, ({}, {}))[1] or key not in latest:  # a second row of that name begins
            latest[key] = line, {}
            rows.append(latest[key])
        latest[key][1][line["metric"]] = _as_written(f"--with {path}, line {number}", line, known[line["metric"]])
    return rows


def _as_written(where: str, line: Mapping[str, str], metric: Metric) -> tuple[float, float | None]:
    try:
        mean, std = float(line["mean"]), float(line["std"]) if line.get("std") else None
    except ValueError:
        raise WrongInput(f"{where}: mean {line['mean']!r} or std {line.get('std')!r} is no number") from None
    if not isfinite(mean) or not 0 <= (std or 0) < inf or (metric.unit == "percent" and not 0 <= mean <= 1):
        told = f"mean {line['mean']} with std {line.get('std') or 'unknown'} is no score"
        raise WrongInput(f"{where}: {told}; this file has fractions, so write 0.626 for 62.6 %")
    return mean, std
