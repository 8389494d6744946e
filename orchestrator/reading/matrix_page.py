"""The table of what goes together, for a terminal and as the page docs/matrix.md."""

from collections.abc import Iterable, Sequence

from rich.console import Console

from orchestrator.planning import matrix
from orchestrator.planning.matrix import Row, Verdict
from orchestrator.reading.formats import markdown_table
from orchestrator.reading.tables import table

WORKS = "✓"
HEAD = """# What goes together

Every combination of the components, expanded into stages as a launch would be, with the defaults on VOC 2012.
`wsss-orch ls --matrix` prints the same; `make matrix` writes this page. `supervised` makes no maps, so it takes none of these.
"""
RULE = (
    f"{WORKS}: it works. A number: it is refused, and the note says why. A number in brackets: it works with the setting in the "
    "note. `recam…` stands for recam and for every chain of extractors after it."
)


class Notes:
    """The reasons of a matrix by their numbers, in the order in which they are met."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def cell(self, verdict: Verdict) -> str:
        """A tick, or the number of the reason."""
        if not verdict.why:
            return WORKS
        if verdict.note not in self.known:
            self.known.append(verdict.note)
        number = str(self.known.index(verdict.note) + 1)
        return f"({number})" if verdict.way else number

    def cells(self, verdicts: Iterable[Verdict]) -> str:
        """One cell of all relearnings: one mark if they agree, else one for each."""
        marks = [self.cell(verdict) for verdict in verdicts]
        return marks[0] if len(set(marks)) == 1 else "/".join(marks)


def tables() -> tuple[list[tuple[str, list[str], list[list[str]]]], list[str]]:
    """The two tables, each with title, head and rows; and the notes."""
    notes, refiners = Notes(), matrix.of_kind("refiner")
    first = [_row(row, refiners, notes) for row in matrix.rows()]
    added = matrix.add_ons()
    second = [[network, *map(notes.cell, verdicts.values())] for network, verdicts in added.items()]
    made = [
        ("Networks, extractors and refiners", ["network", "with", *refiners], first),
        ("Networks and what adds to their training", ["network", *next(iter(added.values()))], second),
    ]
    return made, notes.known


def _row(row: Row, refiners: Sequence[str], notes: Notes) -> list[str]:
    return [row.network, ", ".join(_short(row.chains)), *(notes.cells(row.verdicts[refiner].values()) for refiner in refiners)]


def _short(chains: Sequence[str]) -> list[str]:
    """The chains, where all that begin with one component are named by it; "alone" for none."""
    shown: list[str] = []
    for chain in chains:
        first = chain.partition("+")[0]
        whole = {other for other in matrix.chains() if other.partition("+")[0] == first}
        shown.append((f"{first}…" if len(whole) > 1 and whole <= set(chains) else chain) or "alone")
    return list(dict.fromkeys(shown))


def relearned() -> str:
    """A sentence on relearnings, which are in every cell."""
    names = " and ".join(filter(None, matrix.relearnings()))
    return f"A cell holds for the chain without relearning and with each of {names}; where these differ, it has a mark for each."


def print_matrix(console: Console) -> None:
    """Print the tables and their notes."""
    made, notes = tables()
    for title, head, rows in made:
        shown = table(*head, title=title)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
    for told in (RULE, relearned()):
        console.print(told)
    for number, note in enumerate(notes, 1):
        console.print(f"{number}: {note}")


def page() -> str:
    """The page docs/matrix.md."""
    made, notes = tables()
    parts = [HEAD.strip(), RULE, relearned()]
    parts += [f"## {title}\n\n{markdown_table(head, rows)}" for title, head, rows in made]
    return "\n\n".join([*parts, "## Notes", "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))]) + "\n"
