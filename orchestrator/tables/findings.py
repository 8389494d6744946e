"""What the store has for a table: a line per row, ours beside the published values, and how alike the two orders are."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.prepared import Prepared
from orchestrator.reading.results import completed, results
from orchestrator.reading.summary import Group, Spread, failure_in, group_of
from orchestrator.tables.asked import Asked
from orchestrator.tables.columns import SERVER, Column, Published, class_columns_of, columns_of
from orchestrator.tables.planned import PlannedRow
from orchestrator.tables.table_recipe import Row

ENOUGH = 4  # rows with both values, for a rank correlation


@dataclass(frozen=True)
class Line:
    """A row with what its runs have, and sentences on it."""

    row: Row
    group: Group | None
    state: str  # "quoted", "refused", "failed", "not run", or "" if it has results
    notes: Sequence[str]
    names: Sequence[str] = ()  # of its runs

    def ours(self, column: Column) -> Spread | None:
        """What its runs have in a column."""
        return column.measured(self.group) if self.group else None

    def told(self, column: Column) -> str:
        """The text of our cell: the value, or why there is none."""
        if column.split == SERVER and self.state != "quoted":
            return "server only"
        return self.state or column.told_measured(self.ours(column))


@dataclass(frozen=True)
class Findings:
    """A table's lines."""

    asked: Asked
    lines: Sequence[Line]
    protocol: str = ""  # how ours was measured

    @property
    def columns(self) -> list[Column]:
        """The columns with one value a row."""
        return columns_of(self.asked.table)

    @property
    def class_columns(self) -> list[Column]:
        """The columns with one value a class."""
        return class_columns_of(self.asked.table)

    def published(self, line: Line, column: Column) -> Published:
        """The published value of a line."""
        return column.published(self.asked.table, line.row)

    def difference(self, line: Line, column: Column) -> float | None:
        """Ours minus the published value; none between two image sets."""
        return None if self.asked.elsewhere else column.difference(line.ours(column), self.published(line, column))

    def correlations(self) -> dict[Column, tuple[float, int]]:
        """Spearman's rank correlation of ours with the published values, and the number of rows, where there are enough.

        Of several published values for the same runs, the paper's own counts.
        """
        found = {}
        for column in self.columns:
            pairs: dict[tuple[str, ...], tuple[float, float]] = {}
            for line in sorted(self.lines, key=lambda line: line.row.reported):
                spread, mean = line.ours(column), self.published(line, column).mean
                if spread is not None and mean is not None:
                    pairs.setdefault(tuple(line.names), (spread.mean, mean))
            if len(pairs) >= ENOUGH and not math.isnan(value := _spearman(list(pairs.values()))):
                found[column] = value, len(pairs)
        return found


def findings(asked: Asked, planned: Sequence[PlannedRow], failures: Mapping[str, str] | None = None) -> Findings:
    """The findings of planned rows; `failures` has the errors of runs by their names."""
    lines = [_line(row, failures or {}, asked.table.own) for row in planned]
    return Findings(asked, lines, _protocol(lines, columns_of(asked.table)))


def _line(planned: PlannedRow, failures: Mapping[str, str], own: bool) -> Line:
    row, marks = planned.row, list(_marks(planned.row, own))
    if not row.expression:
        return Line(row, None, "quoted", marks)
    if planned.refusal:
        return Line(row, None, "refused", [*marks, f"refused: {' '.join(planned.refusal.split())}"])
    made = [results(completed(run)) for run in planned.runs if run.steps and _complete(run)]
    failed = dict(_failed(planned, failures))
    told = [*marks, *(f"random seed {seed} failed: {why}" for seed, why in failed.items())]
    if not made:
        return Line(row, None, "failed" if failed else "not run", told, planned.names)
    return Line(row, group_of(made, failed), "", told, planned.names)


def _complete(run: Prepared) -> bool:
    """Whether all stages of a plan are in the store by now: another row may have made them."""
    for step in run.steps:
        if not step.cached:
            run.planner.look(step)
    return all(step.cached for step in run.steps)


def _failed(planned: PlannedRow, failures: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """The random seed and the error of each run without results: of this command, or noted by an earlier one."""
    for run, name in zip(planned.runs, planned.names, strict=True):
        noted = None if all(step.cached for step in run.steps) else failure_in(run.folder)
        if why := failures.get(name, noted):
            yield run.request.random_seed, why


def _marks(row: Row, own: bool) -> Iterator[str]:
    """Sentences on how a published value came about; in a table of our own, runs are ours."""
    if row.reported:
        yield "the paper took the value from the method's own paper"
    if row.saliency:
        yield "made with image-level labels and saliency maps"
    if row.external:
        yield "made with other data than image-level labels"
    if row.initial:
        yield f"the published segmenter started from weights that saw masks of {row.initial.upper()}"
    if row.backbone:
        yield f"backbone as printed: {row.backbone}"
    if isinstance(row.runs, int) and not own:
        yield f"published: {'one run' if row.runs == 1 else f'{row.runs} runs'}"
    if row.repositories:
        yield "public code: " + ", ".join(f"steps {steps}: {name}" for steps, name in row.repositories.items())
    if row.other_version:
        yield "another version of the paper has " + ", ".join(
            f"{name} {_plain(value)}" for name, value in row.other_version.items()
        )
    if row.note:
        yield row.note


def _plain(value: Any) -> str:
    return f"{value['mean']} ± {value['std']}" if isinstance(value, dict) else str(value)


def _protocol(lines: Sequence[Line], columns: Sequence[Column]) -> str:
    """A sentence on how ours was measured: what all rows and scores share, and the names of what differs; "" without results."""
    places = {(column.quantity, column.split) for column in columns}
    rows = [row for line in lines if line.group for place, row in line.group.last().items() if place in places]
    protocols = [row.about["protocol"] for row in rows]
    names = dict.fromkeys(name for protocol in protocols for name in protocol)
    shared = [name for name in names if all(other.get(name) == protocols[0].get(name) for other in protocols)]
    told = "; ".join(f"{name} {protocols[0][name]}" for name in shared)
    differing = ", ".join(name for name in names if name not in (*shared, "split"))
    return f"Ours: {told}{f'. By row or score: {differing}' if differing else ''}." if protocols else ""


def _spearman(pairs: Sequence[tuple[float, float]]) -> float:
    from scipy.stats import spearmanr  # half a second, which only the end of a table needs

    ours, published = zip(*pairs, strict=True)
    if len(set(ours)) == 1 or len(set(published)) == 1:
        return math.nan  # no order
    return float(spearmanr(ours, published).statistic)
