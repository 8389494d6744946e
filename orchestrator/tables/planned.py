"""The rows of a table as experiments, and these as plans that share their stages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from imagesets.errors import WrongInput
from orchestrator.planning.experiment import Experiment, experiment, repeat
from orchestrator.planning.nearest import closest
from orchestrator.planning.plan import Planner
from orchestrator.planning.prepared import Prepared, plan_part
from orchestrator.planning.refusals import effective, problems
from orchestrator.planning.settings import parse_assignments
from orchestrator.planning.stage import Stage, leading_to
from orchestrator.planning.workers import dividing, room
from orchestrator.tables.asked import Asked
from orchestrator.tables.columns import Column
from orchestrator.tables.table_recipe import Row, Table

Wanted = dict[int, Experiment | WrongInput]  # the experiment of a row by its place in the table, or why it is refused


@dataclass
class PlannedRow:
    """A row with its runs, one per random seed; or why there are none, or its stages on images that are not drawn yet."""

    row: Row
    runs: list[Prepared] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the runs
    stages: Sequence[Stage] = ()
    refusal: str = ""


def experiments(asked: Asked) -> Wanted:
    """The experiments of the rows that have an expression.

    A problem of every row is raised: it is one of the command. All rows have one number of workers, so that they share stages.
    """
    found: Wanted = {}
    for place, row in enumerate(asked.table.rows):
        if row.expression:
            try:
                found[place] = experiment(replace(asked.request(row), room=1))
            except WrongInput as error:
                found[place] = error
    able = {place: one for place, one in found.items() if isinstance(one, Experiment)}
    if found and not able:
        raise next(error for error in found.values() if isinstance(error, WrongInput))
    stages = [stage for one in able.values() for stage in leading(asked.table, one)]
    workers = dividing(stages, 1 if asked.cluster else room())
    for place, one in able.items():
        found[place] = experiment(replace(one.request, room=workers)) if workers > 1 else one
    return found


def plan_rows(asked: Asked, wanted: Wanted, planner: Planner | None) -> list[PlannedRow]:
    """All rows of the table with their plans; only their stages if there is no planner, because the images are not drawn yet."""
    planned = [PlannedRow(row) for row in asked.table.rows]
    for place, one in wanted.items():
        row = planned[place]
        if isinstance(one, WrongInput):
            row.refusal = str(one)
            continue
        row.stages = leading(asked.table, one)
        if planner:
            repeats = repeat(one, asked.seeds(row.row))
            row.runs = [plan_part(planner, each, row.stages, _label(asked, row.row, each)) for each in repeats]
        elif found := problems(one, row.stages, {}):
            row.refusal = "; ".join(found)
        row.names = [run.run for run in row.runs]
    return planned


def runs_of(asked: Asked, planned: Sequence[PlannedRow]) -> dict[str, Prepared]:
    """The runs of the chosen rows by their names; rows with equal settings share a run."""
    mine = [row for row in planned if row.row in asked.chosen and not row.refusal]
    return {name: run for row in mine for name, run in zip(row.names, row.runs, strict=True)}


def leading(table: Table, wanted: Experiment) -> list[Stage]:
    """The stages of a row that lead to the table's columns; all stages if it has none."""
    columns = [Column(name) for name in table.columns]
    scored = [stage for stage in wanted.stages if any(column.wanted(stage.scores, stage.list_name) for column in columns)]
    return leading_to(scored) if columns else wanted.stages


def _label(asked: Asked, row: Row, wanted: Experiment) -> str:
    """The name of a run among those of the table."""
    seed = f", random seed {wanted.request.random_seed}" if len(asked.seeds(row)) > 1 else ""
    return f"{row.label}{f', {row.segmenter}' if row.segmenter else ''}{seed}"


def unread(asked: Asked, wanted: Wanted) -> Iterator[str]:
    """A sentence for each setting of `--set` that no row reads."""
    read = set().union(*(effective(one) | one.read for one in wanted.values() if isinstance(one, Experiment)))
    for name, value in parse_assignments([text for _, text in asked.parted]).items():
        if name not in read and not name.startswith(("images.", "imported.")):
            yield f"no row of {asked.table.id} reads {name}={value}; the nearest setting that is read is {closest(name, read)}"
