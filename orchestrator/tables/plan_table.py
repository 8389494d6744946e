"""The plan of a table: what its rows have, what is missing, and what rows share."""

from collections.abc import Sequence, Set

from rich.console import Console

from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared
from orchestrator.reading.tables import duration, table
from orchestrator.tables.asked import Asked
from orchestrator.tables.planned import PlannedRow, runs_of


def print_plans(console: Console, asked: Asked, planned: Sequence[PlannedRow]) -> None:
    """A line for each chosen row: its stages, and those that will run and that no row before it makes."""
    mine = [row for row in planned if row.row in asked.chosen]
    segmenters = any(row.row.segmenter for row in mine)
    heads = ("row", "expression", *(["segmenter"] if segmenters else []), ">runs", ">stages", ">to run", ">CPU")
    made = table(*heads, title=f"{asked.table.name} on {asked.images_name}")
    known: set[str] = set()
    for row in mine:
        made.add_row(row.row.label, row.row.expression, *([row.row.segmenter] if segmenters else []), *_counts(row, known))
        known |= set() if row.refusal else {step.key for step in _steps(row.runs)}
    console.print(made)
    for row in mine:
        if row.refusal:
            console.print(f"{row.row.label} is refused: {' '.join(row.refusal.split())}")
    runs = list(runs_of(asked, planned).values())
    console.print(_summary(_steps(runs)) if runs else f"all stages will run: the images of {asked.images} are not drawn yet")


def _counts(row: PlannedRow, known: Set[str]) -> tuple[str, str, str, str]:
    """Runs, stages, stages that will run, and their CPU time; without the stages whose keys are `known` from rows before."""
    if row.refusal:
        return "", "", "refused", ""
    if not row.runs:
        return "", str(len(row.stages)), "", ""
    steps = _steps(row.runs)
    new = [step for step in steps if step.key not in known and not step.cached]
    return str(len(row.runs)), str(len(steps)), str(len(new)), _cpu(new)


def _steps(runs: Sequence[Prepared]) -> list[PlannedStage]:
    """The stages of runs, each once."""
    return list({step.key: step for run in runs for step in run.steps}.values())


def _cpu(steps: Sequence[PlannedStage]) -> str:
    """The CPU time that stages will take, as far as earlier results tell."""
    known = [step.estimate.cpu for step in steps if step.estimate]
    if not steps or not known:
        return "unknown" if steps else ""
    return duration(sum(known)) + (" and more" if len(known) < len(steps) else "")


def _summary(steps: Sequence[PlannedStage]) -> str:
    missing = [step for step in steps if not step.cached]
    told = f"{len(steps)} stages in all, each once; {len(steps) - len(missing)} cached"
    return f"{told}; {len(missing)} will run, CPU {_cpu(missing)}" if missing else f"{told}; nothing to do"
