"""The tables that exist, read from `recipes/tables/`, and their rows by name."""

from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import recipes as package
from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipes import load
from orchestrator.tables.table_recipe import Row, Table

VARIANTS = ("voc12", "coco14")  # an id ends in one of these where a paper has the same table for both


@cache
def load_tables() -> dict[str, Table]:
    """Every table by its id. A malformed file raises WrongInput with the file and the field."""
    paths = sorted((Path(package.__file__).parent / "tables").glob("*.yaml"))
    return {table.id: table for path in paths for table in load(path, list[Table], f"tables/{path.name}")}


def find_table(name: str, images: str) -> Table:
    """The table of an id, or of an id without its image set: then the one of the image set's kind `images`, else that of VOC."""
    known = load_tables()
    kinds = [images, *VARIANTS]
    found = next((known[id] for id in (name, *(f"{name}-{kind}" for kind in kinds)) if id in known), None)
    if found is None:
        raise WrongInput(f"there is no table {name!r}{nearest(name, ids(), see='wsss-orch tables')}")
    return found


def ids() -> list[str]:
    """All ids, and those without their image set where it decides between two tables."""
    short = (id.removesuffix(f"-{variant}") for id in load_tables() for variant in VARIANTS)
    return list(dict.fromkeys([*load_tables(), *short]))


def chosen(table: Table, patterns: Sequence[str], option: str = "--rows") -> list[Row]:
    """The rows with an expression that match any of the patterns: of a label or an expression, in any case; all without patterns.

    Raises WrongInput, which names the `option`, for a pattern that no row matches.
    """
    rows = [row for row in table.rows if row.expression]
    for pattern in patterns:
        if not any(matches(row, pattern) for row in rows):
            names = {name for row in rows for name in (row.label, row.expression)}
            raise WrongInput(f"{option} {pattern}: {table.id} has no such row to run{nearest(pattern, names)}")
    return [row for row in rows if not patterns or any(matches(row, pattern) for pattern in patterns)]


def matches(row: Row, pattern: str) -> bool:
    """Whether a pattern fits the label or the expression of a row, in any case."""
    return any(fnmatch(name.lower(), pattern.lower()) for name in (row.label, row.expression))
