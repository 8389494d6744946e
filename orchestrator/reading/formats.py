"""A comparison as a table for the terminal, a Markdown document, a LaTeX table and comma-separated values.

The first three are for people: percent, mean ± standard deviation. The last is for programs: fractions at full precision.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.table import Table

from imagesets.errors import WrongInput
from orchestrator.reading.comparison import METRICS, Comparison, Line
from orchestrator.reading.tables import spread_percent, table
from orchestrator.storage.store import write_atomically

COLUMNS = ("", "method", "of", "split", "n", "mIoU", "difference", "precision", "recall", "threshold", "published")
NUMBERS = ("n", "mIoU", "difference", "precision", "recall")
LONG = ("method", "run", "quantity", "of", "split", "metric", "n", "mean", "std", "min", "max", "difference", "difference_std")
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
    "±": r"$\pm$",
}


def rows(comparison: Comparison) -> list[list[str]]:
    """One row of COLUMNS per line, in percent."""
    return [_row(quantity, line) for quantity, lines in comparison.lines.items() for line in lines]


def class_rows(comparison: Comparison, quantity: str) -> list[list[str]]:
    """One row per class: its name and the IoU of each line of `quantity`, in percent."""
    lines = comparison.lines[quantity]
    names = dict.fromkeys(name for line in lines for name in line.row.about["per_class"])
    return [[name, *(spread_percent(line.row.per_class.get(name)) for line in lines)] for name in names]


def terminal_table(comparison: Comparison) -> Table:
    """For the terminal; a row's quantity is said once."""
    made = table(*(f">{name}" if name in NUMBERS else name for name in COLUMNS), wrap=False)
    said = ""
    for quantity, *cells in rows(comparison):
        made.add_row("" if quantity == said else quantity, *cells)
        said = quantity
    return made


def markdown(comparison: Comparison) -> str:
    """Scores, IoU of each class, and warnings."""
    parts = [_markdown_table(["quantity", *COLUMNS[1:]], rows(comparison))]
    for quantity, lines in comparison.lines.items():
        head = ["class", *(line.entry.label for line in lines)]
        parts.append(f"IoU of each class, {quantity}\n\n{_markdown_table(head, class_rows(comparison, quantity))}")
    parts += [f"- {warning}" for warning in comparison.warnings]
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    """A tabular of methods by quantities, mIoU in percent; needs no package."""
    quantities = list(comparison.lines)
    lines = [rf"\begin{{tabular}}{{l{'r' * len(quantities)}}}", r"\hline"]
    splits = [
        f"{quantity} ({', '.join(sorted({line.row.about['split'] for line in comparison.lines[quantity]}))})"
        for quantity in quantities
    ]
    lines += [_latex_row(["method", *splits]), r"\hline"]
    for entry in comparison.entries:
        scores = [entry.last[quantity].scores.get("miou") if quantity in entry.last else None for quantity in quantities]
        lines.append(_latex_row([entry.label, *map(spread_percent, scores)]))
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def comma_separated(comparison: Comparison) -> str:
    """One line per method, quantity and metric, at full precision."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(LONG)
    for quantity, lines in comparison.lines.items():
        for line in lines:
            writer.writerows(_long(quantity, line))
    return file.getvalue()


WRITERS: dict[str, Callable[[Comparison], str]] = {".md": markdown, ".tex": latex, ".csv": comma_separated}


def write(comparison: Comparison, path: Path) -> None:
    """Write a comparison in the format that the file's ending names."""
    if path.suffix not in WRITERS:
        raise WrongInput(f"{path} must end in one of {', '.join([*WRITERS, '.html'])}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, WRITERS[path.suffix](comparison).encode())


def _row(quantity: str, line: Line) -> list[str]:
    about, scores = line.row.about, line.row.scores
    fixed, figure = about["protocol"].get("threshold"), line.published
    return [
        *(quantity, line.entry.label, about["component"], about["split"], str(scores["miou"].n)),
        spread_percent(scores["miou"]),
        spread_percent(line.difference["miou"], signed=True) if line.difference else "",
        *(spread_percent(scores.get(name)) for name in ("precision", "recall")),
        "" if fixed is None else f"{fixed:.2f} fixed",
        f"{figure.value} ({figure.source})" if figure else "",
    ]


def _long(quantity: str, line: Line) -> Iterable[list[object]]:
    about = line.row.about
    for metric in METRICS:
        spread, difference = line.row.scores.get(metric), line.difference.get(metric)
        if spread is None:
            continue
        yield [
            *(line.entry.label, line.entry.group.name, quantity, about["component"], about["split"], metric),
            *(spread.n, spread.mean, spread.std, spread.minimum, spread.maximum),
            *((difference.mean, difference.std) if difference else (None, None)),
        ]


def _markdown_table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(ESCAPED.get(letter, letter) for letter in cell) for cell in cells) + r" \\"
