"""A comparison as a table for the terminal, a Markdown document, a LaTeX table and comma-separated values.

The first three are for people: mean ± standard deviation in the unit of each metric. The last is for programs: full precision,
and percentages as fractions.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from imagesets.errors import WrongInput
from orchestrator.planning import scores
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.comparison import Comparison, Line
from orchestrator.reading.numbers import NONE, form, heading, scale, told_figures, told_mean, told_spread
from orchestrator.reading.rows_of_files import GivenRow
from orchestrator.reading.summary import Scored, Spread
from orchestrator.reading.tables import PIPED_WIDTH, fitting, threshold
from orchestrator.storage.store import write_atomically

Content = TypeVar("Content")

ABOUT = ("method", "run", "quantity", "of", "split", "metric", "class", "unit", "better")
NUMBERS = ("n", "mean", "std", "min", "max", "difference", "difference_std", "difference_low", "difference_high", "images")
PUBLISHED = ("published", "source")
ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\~{}",
    "^": r"\^{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "<": "$<$",  # LaTeX's usual text font has other signs at these three
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",  # \\ before a row would take these two for its own
    "*": "{*}",
    "≤": r"$\le$",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "τ": r"$\tau$",
}


def columns(comparison: Comparison) -> list[str]:
    """The column titles of `rows`; titles of numbers begin with '>'."""
    mains, others = _metrics(comparison)
    heads = [f">{heading(metric)}" for metric in mains.values()]
    after = [f">{heading(metric)}" for metric in others.values()]
    return [
        "",
        "method",
        "of",
        "split",
        ">runs",
        *heads,
        ">difference",
        ">interval (images)",
        *after,
        "threshold",
        *(["from"] if comparison.given else []),
        "published",
    ]


def rows(comparison: Comparison) -> list[list[str]]:
    """One row of `columns` per line, and after those of a quantity and list the rows of files."""
    mains, others = _metrics(comparison)
    found: list[list[str]] = []
    for place, lines in comparison.lines.items():
        found += [_row(line, mains, others, with_files=bool(comparison.given)) for line in lines]
        found += [_given_row(place, row, mains, others) for row in comparison.given.get(place, ())]
    return found


def class_head(place: Scored) -> str:
    """The title of `class_rows`: "IoU of each class"."""
    return f"{scores.class_title(place[0])} of each class, {place[0]} on {place[1]}"


def class_rows(comparison: Comparison, place: Scored) -> list[list[str]]:
    """One row per class: its name and the score of each line of a quantity on a list; empty if there are no scores of classes."""
    lines, metric = comparison.lines[place], scores.main_metric(place[0])
    names = dict.fromkeys(name for line in lines for name in line.row.per_class)
    return [[name, *(told_spread(line.row.per_class.get(name), metric) for line in lines)] for name in names]


def terminal_table(comparison: Comparison, room: int = PIPED_WIDTH) -> Table:
    """The table for a terminal `room` wide, in which each quantity is named once; without published figures if there are none."""
    heads, body = columns(comparison), rows(comparison)
    if not any(row[-1] for row in body):
        heads, body = heads[:-1], [row[:-1] for row in body]
    first = [number == 0 or row[0] != body[number - 1][0] for number, row in enumerate(body)]
    body = [row if named else ["", *row[1:]] for named, row in zip(first, body, strict=True)]
    others = [f">{heading(metric)}" for metric in _metrics(comparison)[1].values()]
    return fitting(heads, body, [*others[:1], "threshold", *(["from"] if comparison.given else []), *others[1:]], room)


def markdown(comparison: Comparison) -> str:
    """A Markdown document: scores, scores of each class, warnings."""
    heads = [name.removeprefix(">") for name in columns(comparison)]
    parts = [markdown_table(["quantity", *heads[1:]], rows(comparison))]
    for place, lines in comparison.lines.items():
        head = ["class", *(line.entry.label for line in lines)]
        if body := class_rows(comparison, place):
            parts.append(f"{class_head(place)}\n\n{markdown_table(head, body)}")
    parts += [f"- {warning}" for warning in comparison.warnings]
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    """LaTeX tabulars that need no package: methods by main metrics, then classes by methods for each quantity and list."""
    places = list(comparison.lines)
    heads = [f"{quantity} {heading(scores.main_metric(quantity))} ({split})" for quantity, split in places]
    body = []
    for entry in comparison.entries:
        mains = [entry.last[place].main if place in entry.last else None for place in places]
        cells = [told_spread(main, scores.main_metric(place[0])) for main, place in zip(mains, places, strict=True)]
        body.append([entry.label, *cells])
    body += [_given_mains(place, row, places) for place, given in comparison.given.items() for row in given]
    tables = [tabular(["method", *heads], body)]
    for place, lines in comparison.lines.items():
        if of_classes := class_rows(comparison, place):
            tables.append(f"% {class_head(place)}\n" + tabular(["class", *(line.entry.label for line in lines)], of_classes))
    return "\n".join(tables)


def _given_mains(place: Scored, row: GivenRow, places: Sequence[Scored]) -> list[str]:
    """A row of a file in the table of main metrics, with its source."""
    name, metric = scores.main(place[0]), scores.main_metric(place[0])
    value = told_mean(*row.values[name], metric) if name in row.values else NONE
    return [f"{row.label} ({row.source})", *(value if place == other else NONE for other in places)]


def tabular(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A LaTeX tabular that needs no package; the first column is left-aligned."""
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\hline", _latex_row(head), r"\hline", *map(_latex_row, body)]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def comma_separated(comparison: Comparison) -> str:
    """One line per method, quantity, list and metric at full precision, then one per class for the scores of classes."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((*ABOUT, *NUMBERS, *PUBLISHED))
    for place, lines in comparison.lines.items():
        for line in lines:
            writer.writerows(_long(line))
        for row in comparison.given.get(place, ()):
            writer.writerows(_long_given(place, row))
    return file.getvalue()


def write(comparison: Comparison, path: Path) -> None:
    """Write a comparison in the format that the file's ending names."""
    write_as({".md": markdown, ".tex": latex, ".csv": comma_separated}, comparison, path)


def write_as(writers: Mapping[str, Callable[[Content], str]], content: Content, path: Path) -> None:
    """Write `content` with the writer of the file's ending; WrongInput if there is none."""
    if path.suffix not in writers:
        raise WrongInput(f"{path} must end in one of {', '.join([*writers, '.html'])}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, writers[path.suffix](content).encode())


def _metrics(comparison: Comparison) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """The main metrics of the comparison, and the other metrics of tables."""
    shown = scores.metrics(comparison.quantities, "tables")
    mains = {scores.main(quantity) for quantity in comparison.quantities}
    return (
        {name: metric for name, metric in shown.items() if name in mains},
        {name: metric for name, metric in shown.items() if name not in mains},
    )


def _row(line: Line, mains: Mapping[str, Metric], others: Mapping[str, Metric], with_files: bool) -> list[str]:
    about, main = line.row.about, line.row.main
    metric = scores.main_metric(about["quantity"])

    def told(metrics: Mapping[str, Metric]) -> list[str]:
        return [told_spread(line.row.scores.get(name), own) if name in about["metrics"] else "" for name, own in metrics.items()]

    return [
        *(about["quantity"], line.entry.label, about["component"], about["split"], str(main.n if main else 0)),
        *told(mains),
        told_spread(line.difference.spread, metric, signed=True) if line.difference else "",
        _over_images(line, metric),
        *told(others),
        *(threshold(*line.row.runs.values()), *([""] if with_files else [])),
        told_figures(line.published, about["quantity"]),
    ]


def _given_row(place: Scored, row: GivenRow, mains: Mapping[str, Metric], others: Mapping[str, Metric]) -> list[str]:
    """A row of a file; it has no difference, because its images and its protocol are not known."""

    def told(metrics: Mapping[str, Metric]) -> list[str]:
        return [told_mean(*row.values[name], own) if name in row.values else "" for name, own in metrics.items()]

    return [*(place[0], row.label, row.of, place[1], row.runs), *told(mains), "", "", *told(others), "", row.source, ""]


def _over_images(line: Line, metric: Metric) -> str:
    """The interval of a difference, and how many images it is over."""
    images = line.row.about["protocol"]["images"]
    if line.difference is None:
        return ""
    if line.difference.interval is None:
        return f"({images})"
    low, high = (f"{scale(metric) * value:+{form(metric)}}" for value in line.difference.interval)
    return f"{low} to {high} ({images})"


def _long(line: Line) -> Iterable[list[object]]:
    about, metrics = line.row.about, scores.metrics([line.row.about["quantity"]])
    for name, metric in metrics.items():
        if spread := line.row.scores.get(name):
            difference, figure = line.differences.get(name), line.published.get(name)
            yield [
                *_about(line, name, "", metric),
                *of_runs(spread),
                *((difference.spread.mean, difference.spread.std) if difference else (None, None)),
                *(difference.interval if difference and difference.interval else (None, None)),
                about["protocol"]["images"],
                *((figure.value / scale(metric), figure.source) if figure else (None, None)),
            ]
    main = scores.main_metric(about["quantity"])
    for name, spread in line.row.per_class.items():
        yield [*_about(line, main.per_class, name, main), *of_runs(spread), *[None] * 4, about["protocol"]["images"], None, None]


def _long_given(place: Scored, row: GivenRow) -> Iterable[list[object]]:
    declared = scores.metrics([place[0]])
    for name, (mean, std) in row.values.items():
        about = [row.label, "", place[0], row.of, place[1], name, "", written_unit(declared[name]), declared[name].better]
        yield [*about, row.runs, mean, std, *[None] * 8, row.source]


def _about(line: Line, metric: str, class_name: str, declared: Metric) -> list[object]:
    entry, about = line.entry, line.row.about
    place = entry.label, entry.group.name, about["quantity"], about["component"], about["split"]
    return [*place, metric, class_name, written_unit(declared), declared.better]


def written_unit(metric: Metric) -> str:
    """The unit of a number at full precision; a percentage is a fraction there."""
    return "fraction" if metric.unit == "percent" else metric.unit


def of_runs(spread: Spread | None) -> list[object]:
    """The cells `n`, `mean`, `std`, `min` and `max`, empty if no run has a value."""
    return [spread.n, spread.mean, spread.std, spread.minimum, spread.maximum] if spread else [None] * 5


def markdown_table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|").replace("<", r"\<") for cell in line) + " |" for line in lines)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(ESCAPED.get(letter, letter) for letter in cell) for cell in cells) + r" \\"
